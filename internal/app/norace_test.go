//go:build !race

package app_test

// racing is so with the race detector.
const racing = false
