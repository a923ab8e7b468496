package web

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"yesline"
	"yesline/internal/access"
	"yesline/internal/audio"
	"yesline/internal/audit"
	"yesline/internal/playback"
)

// wide is the virtual WAV of a voice of the sample that is kept in Opus: at 16
// kHz.
func wide(t yesline.TrackID, seconds int64) []byte {
	h, _ := audio.WAVHeaderAt(audio.WideRate, seconds*audio.WideRate)
	whole := h[:]
	for i := range seconds * audio.WideRate {
		whole = audio.PCM(whole, []int16{int16(100 * (i % 100))})
	}
	return whole
}

// original is a voice of the sample as it came: its parts say which they are.
func (s *sample) original(_ context.Context, p access.Permit, t yesline.TrackID, from, count int64) ([]byte, bool, error) {
	if _, err := p.Allows(access.Listen, "track", string(t)); err != nil {
		return nil, false, err
	}
	if s.codec != audio.Opus || count < 1 || count > playback.OriginalSeconds || from+count > s.seconds {
		return nil, false, fmt.Errorf("seconds %d and %d more: %w", from, count, yesline.NotFound)
	}
	return fmt.Appendf(nil, "OggS %d+%d\n", from, count), from+count < s.seconds, nil
}

// What is kept in Opus is a WAV at 16 kHz: its header, length and windows say so,
// and the log the right seconds.
func TestAVoiceInOpusIsWide(t *testing.T) {
	t.Parallel()
	s := newSample(t)
	s.codec = audio.Opus
	site := newSite(t, s)
	path := "/tracks/" + string(trkAnn) + "/audio"
	shape := playback.ShapeOf(s.seconds, audio.Opus)
	got := visit(site, s, "ann", "GET", path, nil, "Range", "bytes=0-")
	if total := fmt.Sprintf("/%d", shape.Size()); got.Code != http.StatusPartialContent || !strings.HasSuffix(got.Header().Get("Content-Range"), total) {
		t.Fatalf("answered %d with %s, want a part of %s", got.Code, got.Header().Get("Content-Range"), total)
	}
	if rate := binary.LittleEndian.Uint32(got.Body.Bytes()[24:]); rate != audio.WideRate {
		t.Errorf("the file is at %d Hz", rate)
	}
	from := int64(playback.HeaderBytes + 10*2*audio.WideRate) // second 10
	got = visit(site, s, "ann", "GET", path, nil, "Range", fmt.Sprintf("bytes=%d-%d", from, from+2*audio.WideRate-1))
	last := s.questions()
	if d := last[len(last)-1].detail; d["from"] != "10" || d["seconds"] != "1" {
		t.Errorf("the gate was asked about second %s, and %s of them", d["from"], d["seconds"])
	}
	if !bytes.Equal(got.Body.Bytes(), wide(trkAnn, s.seconds)[from:from+2*audio.WideRate]) {
		t.Error("second 10 is other sound")
	}
	whole := visit(site, s, "ann", "GET", path, nil)
	if !bytes.Equal(whole.Body.Bytes(), wide(trkAnn, s.seconds)) {
		t.Errorf("the whole is %d bytes, want %d", whole.Body.Len(), shape.Size())
	}
}

// It can be taken home as it came, minute by minute, each asked about before it
// leaves, by those who may hear it and with their ticket.
func TestAVoiceIsTakenHomeAsItCame(t *testing.T) {
	t.Parallel()
	s := newSample(t)
	s.codec = audio.Opus
	site := newSite(t, s)
	path := "/tracks/" + string(trkAnn) + "/original"
	before := len(s.questions())
	got := visit(site, s, "ann", "GET", path, nil)
	if got.Code != http.StatusOK || got.Body.String() != "OggS 0+60\nOggS 60+40\n" || got.Header().Get("Content-Type") != "audio/ogg" ||
		!strings.Contains(got.Header().Get("Content-Disposition"), "attachment") {
		t.Errorf("answered %d %v %q", got.Code, got.Header(), got.Body)
	}
	asked := []string{}
	for _, q := range s.questions()[before:] {
		if q.verb == access.Listen && q.detail["part"] == "original" {
			asked = append(asked, q.detail["from"]+"+"+q.detail["seconds"])
		}
	}
	if !slices.Equal(asked, []string{"0+60", "60+40"}) {
		t.Errorf("the gate was asked about %v", asked)
	}
	if page := visit(site, s, "ann", "GET", "/calls/"+string(callID("both")), nil).Body.String(); !strings.Contains(page, `href="`+path+`"`) {
		t.Error("the page of the call does not offer it")
	}
	if got := visit(site, s, "ann", "HEAD", path, nil); got.Code != http.StatusOK || got.Body.Len() != 0 {
		t.Errorf("HEAD answers %d with %d bytes", got.Code, got.Body.Len())
	}
	// Nobody else, and nobody without a ticket.
	absent := visit(site, s, "eve", "GET", "/tracks/"+id("trk", "nowhere")+"/original", nil)
	for _, who := range []string{"eve", "bob", ""} {
		if got := visit(site, s, who, "GET", path, nil); got.Code != http.StatusNotFound || got.Body.String() != absent.Body.String() {
			t.Errorf("%q is answered %d", who, got.Code)
		}
	}
	r := httptest.NewRequest("GET", path, nil)
	r.AddCookie(&http.Cookie{Name: "yesline", Value: s.cookies["ann"]})
	w := httptest.NewRecorder()
	site.ServeHTTP(w, r)
	if w.Code != http.StatusNotFound {
		t.Errorf("without a ticket it answers %d", w.Code)
	}
	// A voice of a telephone is not there as it came, which its owner may know.
	s.codec = audio.PCMU
	if got := visit(site, s, "ann", "GET", path, nil); got.Code != http.StatusConflict {
		t.Errorf("a voice of a telephone answers %d", got.Code)
	}
	if got := visit(site, s, "eve", "GET", path, nil); got.Code != http.StatusNotFound || got.Body.String() != absent.Body.String() {
		t.Errorf("to a stranger a voice of a telephone answers %d", got.Code)
	}
	if page := visit(site, s, "ann", "GET", "/calls/"+string(callID("both")), nil).Body.String(); strings.Contains(page, path) {
		t.Error("the page of the call offers what is not there")
	}
}

// Who may not hear it any more gets no part more, and what they have looks cut
// off.
func TestTakingHomeEndsWithThePermission(t *testing.T) {
	t.Parallel()
	s := newSample(t)
	s.codec = audio.Opus
	first := s.House.Original
	s.House.Original = func(ctx context.Context, p access.Permit, track yesline.TrackID, from, count int64) ([]byte, bool, error) {
		if err := s.sessions.End(ctx, p.Who()); err != nil {
			t.Error(err)
		}
		part, more, err := first(ctx, p, track, from, count)
		return append(part, make([]byte, 64<<10)...), more, err
	}
	server := httptest.NewServer(newSite(t, s))
	defer server.Close()
	r, err := http.NewRequest("GET", server.URL+"/tracks/"+string(trkAnn)+"/original", nil)
	if err != nil {
		t.Fatal(err)
	}
	r.AddCookie(&http.Cookie{Name: "yesline", Value: s.cookies["ann"]})
	r.AddCookie(&http.Cookie{Name: "yesline-ticket", Value: s.ticketed("ann", r.URL.Path)})
	r.Header.Set("User-Agent", "")
	got, err := server.Client().Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer got.Body.Close()
	body, err := io.ReadAll(got.Body)
	if got.StatusCode != http.StatusOK || err == nil || strings.Contains(string(body), "60+40") {
		t.Errorf("answered %d %q, %v", got.StatusCode, body, err)
	}
}

// By key, with a ticket in the address.
func TestAVoiceAsItCameByKey(t *testing.T) {
	t.Parallel()
	h := newKeyHouse(t, func(h *keyHouse) {
		h.codec = audio.Opus
		h.House.Original = func(_ context.Context, p access.Permit, track yesline.TrackID, from, count int64) ([]byte, bool, error) {
			_, err := p.Allows(access.Listen, "track", string(track))
			return fmt.Appendf(nil, "OggS %d+%d", from, count), false, err
		}
	})
	var ticket struct{ URL, Original string }
	h.decode(h.want(http.StatusOK, "ann", "POST", "/api/v1/tracks/"+string(h.track)+"/ticket", ""), &ticket)
	if got := h.as("", "GET", ticket.Original, ""); got.Code != http.StatusOK || got.Body.String() != "OggS 0+3" {
		t.Errorf("answered %d %q", got.Code, got.Body)
	}
	if got := h.as("", "GET", strings.Split(ticket.Original, "?")[0], ""); got.Code != http.StatusUnauthorized {
		t.Errorf("without a ticket it answers %d", got.Code)
	}
	h.codec = audio.PCMU
	h.decode(h.want(http.StatusOK, "ann", "POST", "/api/v1/tracks/"+string(h.track)+"/ticket", ""), &ticket)
	if ticket.Original != "" {
		t.Error("a voice of a telephone has an address as it came")
	}
}

// Its minutes are one line of the access list, with the seconds that left.
func TestTakingHomeInWords(t *testing.T) {
	t.Parallel()
	s := newSample(t)
	for _, from := range []string{"60", "0"} {
		s.lines = append(s.lines, audit.Line{Entry: audit.Entry{Actor: string(bob), Verb: "listen", Object: string(trkAnn), Result: "allowed",
			Detail: map[string]string{"part": "original", "from": from, "seconds": "60"}, AtMillis: day.UnixMilli()}})
	}
	page := visit(newSite(t, s), s, "ann", "GET", "/calls/"+string(callID("both"))+"/log", nil).Body.String()
	if !strings.Contains(page, "took your voice home as it came, from 0:00 to 2:00") || strings.Count(page, "took your voice home") != 1 || !strings.Contains(page, "in 2 parts") {
		t.Error("the access list does not tell of it in one line")
	}
}
