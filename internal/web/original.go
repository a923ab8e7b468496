package web

import (
	"fmt"
	"mime"
	"net/http"
	"strings"

	"yesline"
	"yesline/internal/audio"
	"yesline/internal/playback"
)

// A voice that is kept in Opus can be taken home as it came. It goes out in
// parts of at most a minute, each asked about and in its owner's log before it
// leaves, like the windows of what is played.

// inOpus reports whether a voice is kept in Opus.
func inOpus(shape playback.Shape) bool {
	return shape == playback.ShapeOf(shape.Seconds(), audio.Opus)
}

// errOtherwise is said of a voice that is not kept in Opus.
var errOtherwise = fmt.Errorf("a voice that is kept otherwise: %w", yesline.Conflict)

// partFunc asks for seconds from to from+count-1 of a voice and gives them; of
// none it only asks.
type partFunc func(from, count int64) (part []byte, more bool, err error)

// original serves the sound of a track as it came.
func (s *Site) original(w http.ResponseWriter, a asked, ask askFunc) error {
	track := yesline.TrackID(a.PathValue("track"))
	shape, err := s.shape(a, track)
	if err != nil {
		return err
	}
	tickets := s.chainOf(a, track)
	given := false
	return s.sendOriginal(w, a.Request, shape, func(from, count int64) ([]byte, bool, error) {
		permit, err := tickets.ask(ask, playback.SaidOriginal(from, count))
		if err != nil {
			return nil, false, err
		}
		if !given { // before the status
			given = true
			tickets.give(w)
		}
		if count == 0 {
			return nil, false, nil
		}
		return s.house.Original(a.Context(), permit, track, from, count)
	})
}

// playOriginal is original for programs.
func (d *desk) playOriginal(w http.ResponseWriter, r *http.Request, rule Rule) error {
	track := yesline.TrackID(r.PathValue("track"))
	shape, err := d.shape(asked{Request: r}, track)
	if err != nil {
		return err
	}
	return d.sendOriginal(w, r, shape, func(from, count int64) ([]byte, bool, error) {
		permit, err := d.mayPlay(r, rule, playback.SaidOriginal(from, count))
		if err != nil || count == 0 {
			return nil, false, err
		}
		return d.house.Original(r.Context(), permit, track, from, count)
	})
}

// sendOriginal sends part after part. That a voice is kept otherwise is told to
// whoever may hear it, and to nobody else.
func (s *Site) sendOriginal(w http.ResponseWriter, r *http.Request, shape playback.Shape, part partFunc) error {
	opus := inOpus(shape)
	count := func(from int64) int64 {
		if !opus || r.Method == http.MethodHead {
			return 0
		}
		return min(playback.OriginalSeconds, max(1, shape.Seconds()-from))
	}
	data, more, err := part(0, count(0))
	if err != nil {
		return err
	}
	if !opus {
		return errOtherwise
	}
	h := w.Header()
	h.Set("Content-Type", "audio/ogg")
	h.Set("Accept-Ranges", "none")
	h.Set("Content-Disposition", mime.FormatMediaType("attachment", map[string]string{"filename": "yesline-" + strings.TrimPrefix(r.PathValue("track"), "trk_")[:6] + ".ogg"}))
	w.WriteHeader(http.StatusOK)
	for from := count(0); ; from += count(from) {
		if err := s.pass(w, data); err != nil || !more {
			return nil
		}
		if err := hurry(w); err != nil {
			panic(http.ErrAbortHandler)
		}
		// The status is out: what ends here must look cut off, not complete.
		if data, more, err = part(from, count(from)); err != nil {
			panic(http.ErrAbortHandler)
		}
	}
}
