//go:build !race

package media

// racing is so with the race detector.
const racing = false
