//go:build !linux

package disk

import (
	"errors"
	"os"
)

func dataSync(f *os.File) error { return f.Sync() }

// systemSync is not to be had here: each blob is synced alone.
func systemSync(*os.File) error { return errors.ErrUnsupported }
