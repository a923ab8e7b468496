package web

import (
	"errors"
	"fmt"
	"net/http"
	"os"
	"strconv"
	"time"

	"yesline"
	"yesline/internal/playback"
)

// audio serves a voice in windows. Each is authorized, and its entry durable,
// before its first byte; a 206 holds one window however much was asked for,
// and an answer to a GET without Range goes on only while the gate does.
func (s *Site) audio(w http.ResponseWriter, a asked, ask askFunc) error {
	track := yesline.TrackID(a.PathValue("track"))
	seconds, err := s.seconds(a, track)
	if err != nil {
		return err
	}
	total := playback.Size(seconds)
	part, single, rangeErr := parseRange(wanted(a.Request), total)
	if rangeErr != nil || a.Method == http.MethodHead {
		return s.withoutSound(w, a, ask, total, rangeErr)
	}
	if !single {
		part = span{0, total, true}
	}
	end := playback.Cut(part.from, part.to, part.open)
	data, err := s.window(a, ask, track, part.from, end)
	if err != nil {
		return err
	}
	h := soundHeaders(w)
	if single {
		h.Set("Content-Range", fmt.Sprintf("bytes %d-%d/%d", part.from, end-1, total))
		h.Set("Content-Length", strconv.Itoa(len(data)))
		w.WriteHeader(http.StatusPartialContent)
		w.Write(data)
		return nil
	}
	h.Set("Content-Length", strconv.FormatInt(total, 10))
	w.WriteHeader(http.StatusOK)
	for {
		if err := hurry(w); err != nil {
			panic(http.ErrAbortHandler)
		}
		if _, err := w.Write(data); err != nil || end == total {
			return nil
		}
		from := end
		end = playback.Cut(from, total, true)
		// The status is out: what ends here must look cut off, not complete.
		if data, err = s.window(a, ask, track, from, end); err != nil {
			panic(http.ErrAbortHandler)
		}
	}
}

// wanted is the Range that counts. We give no validators, so a Range that
// depends on one (If-Range) does not hold.
func wanted(r *http.Request) string {
	if r.Header.Get("If-Range") != "" || len(r.Header.Values("Range")) != 1 {
		return ""
	}
	return r.Header.Get("Range")
}

// seconds asks the house's books how to word the question to the gate. What
// they say is used for nothing else before there is a permit.
func (s *Site) seconds(a asked, track yesline.TrackID) (int64, error) {
	if !yesline.IsID("trk", string(track)) {
		return 0, nil
	}
	seconds, err := s.house.Seconds(a.Context(), track)
	if errors.Is(err, yesline.NotFound) {
		return 0, nil
	}
	return seconds, err
}

// window is one decision and the sound it permits.
func (s *Site) window(a asked, ask askFunc, track yesline.TrackID, from, to int64) ([]byte, error) {
	permit, err := ask(playback.Served(from, to))
	if err != nil {
		return nil, err
	}
	data, err := s.house.Window(a.Context(), permit, track, from, to)
	if err == nil && int64(len(data)) != to-from {
		err = fmt.Errorf("a window of %d bytes came back as %d: %w", to-from, len(data), yesline.Tampered)
	}
	return data, err
}

// withoutSound answers what carries no byte of the voice but tells its length:
// HEAD, and a Range that cannot be.
func (s *Site) withoutSound(w http.ResponseWriter, a asked, ask askFunc, total int64, rangeErr error) error {
	if _, err := ask(playback.Served(0, 0)); err != nil {
		return err
	}
	h := soundHeaders(w)
	if rangeErr != nil {
		h.Set("Content-Range", fmt.Sprintf("bytes */%d", total))
		h.Set("Content-Length", "0")
		w.WriteHeader(http.StatusRequestedRangeNotSatisfiable)
		return nil
	}
	h.Set("Content-Length", strconv.FormatInt(total, 10))
	w.WriteHeader(http.StatusOK)
	return nil
}

func soundHeaders(w http.ResponseWriter) http.Header {
	h := w.Header()
	h.Set("Content-Type", "audio/wav")
	h.Set("Accept-Ranges", "bytes")
	return h
}

// hurry gives the client time for one more window and no more. A recorder in a
// test has no connection to hurry.
func hurry(w http.ResponseWriter) error {
	err := http.NewResponseController(w).SetWriteDeadline(time.Now().Add(answerTime))
	if errors.Is(err, http.ErrNotSupported) || errors.Is(err, os.ErrNoDeadline) {
		return nil
	}
	return err
}

// peaks serves what the waveform is drawn from. It tells when somebody spoke,
// so it is asked for and logged like their voice.
func (s *Site) peaks(w http.ResponseWriter, a asked, ask askFunc) error {
	permit, err := ask(map[string]string{"part": "waveform"})
	if err != nil {
		return err
	}
	drawn, err := s.house.Peaks(a.Context(), permit, yesline.TrackID(a.PathValue("track")))
	if err != nil {
		return err
	}
	data, err := drawn.MarshalBinary()
	if err != nil {
		return err
	}
	w.Header().Set("Content-Type", "application/octet-stream")
	w.Header().Set("Content-Length", strconv.Itoa(len(data)))
	w.Write(data)
	return nil
}
