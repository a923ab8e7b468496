package web

import (
	"crypto/sha256"
	"encoding/hex"
	"io/fs"
	"mime"
	"net/http"
	"path"
	"strconv"
)

// assets are the styles and scripts, under a prefix that changes with any of
// them, so that they may be kept for ever and one can import the other.
type assets struct {
	prefix string // "/a/<hash>/"
	files  map[string][]byte
}

func loadAssets() (assets, error) {
	a := assets{files: map[string][]byte{}}
	sum := sha256.New()
	names, err := fs.Glob(files, "pages/static/*")
	if err != nil {
		return a, err
	}
	for _, name := range names { // Glob sorts
		data, err := files.ReadFile(name)
		if err != nil {
			return a, err
		}
		a.files[path.Base(name)] = data
		sum.Write([]byte(name))
		sum.Write(data)
	}
	a.prefix = "/a/" + hex.EncodeToString(sum.Sum(nil)[:8]) + "/"
	return a, nil
}

func (s *Site) asset(w http.ResponseWriter, r *http.Request) {
	name := r.PathValue("file")
	data, ok := s.assets.files[name]
	if !ok {
		s.absent(w)
		return
	}
	h := w.Header()
	h.Set("Content-Type", mime.TypeByExtension(path.Ext(name)))
	h.Set("Content-Length", strconv.Itoa(len(data)))
	h.Set("Cache-Control", "public, max-age=31536000, immutable")
	w.Write(data)
}
