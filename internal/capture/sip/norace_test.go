//go:build !race

package sip_test

// racing is so with the race detector.
const racing = false
