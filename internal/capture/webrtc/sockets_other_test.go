//go:build !linux

package webrtc_test

import "syscall"

// killedWithUs has no meaning here: the test's end kills its children.
func killedWithUs() *syscall.SysProcAttr { return nil }
