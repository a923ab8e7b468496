package web

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"time"

	"yesline"
	"yesline/internal/access"
	"yesline/internal/playback"
	"yesline/internal/session"
)

var errNoTicket = errors.New("no ticket")

// client is what a program's ticket is bound to: where its holder asks from,
// and what with. It is a hash, so that no address is kept anywhere.
func (s *Site) client(r *http.Request) string {
	sum := sha256.Sum256([]byte("program:" + place64(s.address(r)).String() + "\n" + r.UserAgent()))
	return base64.RawURLEncoding.EncodeToString(sum[:18])
}

func (d *desk) apiTicket(ctx context.Context, a asked, in *trackIn) (*ticketOut, error) {
	token, until, err := d.house.Tickets.Issue(ctx, a.Permit, toPlay, d.client(a.Request))
	if err != nil {
		return nil, err
	}
	out := &ticketOut{}
	out.Body.URL = "/api/v1/tracks/" + in.Track + "/audio?ticket=" + token
	out.Body.Expires = until.UTC()
	shape, err := d.shape(a, yesline.TrackID(in.Track))
	if inOpus(shape) {
		out.Body.Original = "/api/v1/tracks/" + in.Track + "/original?ticket=" + token
	}
	return out, err
}

// sound is the door of a voice for programs. The ticket in its address is no
// permit: for each window it is checked anew, the key that it belongs to is
// looked up, and the gate is asked as that key.
func sound(pattern string, rule Rule, name, summary string, play func(*desk, http.ResponseWriter, *http.Request, Rule) error) *operation {
	return &operation{pattern: pattern, rule: rule, name: name, summary: summary, status: http.StatusOK, asks: []string{"ticket"},
		stream: func(d *desk, o *operation) http.HandlerFunc {
			return func(w http.ResponseWriter, r *http.Request) {
				who, err := d.holder(r)
				if err == nil && o.people && who.Person() == "" {
					err = yesline.NotFound
				}
				if err != nil {
					d.refuseAPI(w, r, err)
					return
				}
				if _, wait := d.paces.take(who.Key(), time.Now()); wait > 0 {
					d.tooFast(w, wait)
					return
				}
				r = d.carryingToken(r, who, r.URL.Query().Get("ticket"), d.client(r))
				if err := play(d, w, r, o.rule); err != nil {
					d.refuseAPI(w, r, err)
				}
			}
		}}
}

// holder is who asks by the ticket in the address. Whatever is wrong with a
// ticket, it is none.
func (d *desk) holder(r *http.Request) (session.Principal, error) {
	q := r.URL.Query()
	if len(q) != 1 || len(q["ticket"]) != 1 || d.house.API.KeyOf == nil {
		d.noSession.Add(1)
		return session.Principal{}, errNoTicket
	}
	ctx, token, track, client := r.Context(), q.Get("ticket"), r.PathValue("track"), d.client(r)
	key, err := d.house.API.KeyOf(ctx, token, track, client)
	var who session.Principal
	if err == nil {
		who, err = d.house.API.WhoKeyID(ctx, key)
	}
	if err == nil {
		_, err = d.house.Tickets.Check(ctx, token, who, track, client)
	}
	if errors.Is(err, yesline.NotFound) || err == nil && who.Key() == "" {
		d.noSession.Add(1)
		return session.Principal{}, errNoTicket
	}
	return who, err
}

// play sends a voice in windows, each permitted and written down before its
// first byte.
func (d *desk) play(w http.ResponseWriter, r *http.Request, rule Rule) error {
	track := yesline.TrackID(r.PathValue("track"))
	shape, err := d.shape(asked{Request: r}, track)
	if err != nil {
		return err
	}
	total := shape.Size()
	part, single, rangeErr := parseRange(wanted(r), total)
	if rangeErr != nil || r.Method == http.MethodHead {
		return d.length(w, r, rule, total, rangeErr)
	}
	if !single {
		part = span{0, total, true}
	}
	end := shape.Cut(part.from, part.to, part.open)
	data, err := d.piece(r, rule, shape, part.from, end)
	if err != nil {
		return err
	}
	h := soundHeaders(w)
	if single {
		h.Set("Content-Range", fmt.Sprintf("bytes %d-%d/%d", part.from, end-1, total))
		h.Set("Content-Length", strconv.Itoa(len(data)))
		w.WriteHeader(http.StatusPartialContent)
		d.pass(w, data)
		return nil
	}
	h.Set("Content-Length", strconv.FormatInt(total, 10))
	w.WriteHeader(http.StatusOK)
	for {
		if err := hurry(w); err != nil {
			panic(http.ErrAbortHandler)
		}
		if err := d.pass(w, data); err != nil || end == total {
			return nil
		}
		from := end
		end = shape.Cut(from, total, true)
		// The status is out: what ends here must look cut off, not complete.
		if data, err = d.piece(r, rule, shape, from, end); err != nil {
			panic(http.ErrAbortHandler)
		}
	}
}

// piece is one window, and everything that must be so for it.
func (d *desk) piece(r *http.Request, rule Rule, shape playback.Shape, from, to int64) ([]byte, error) {
	permit, err := d.mayPlay(r, rule, shape.Served(from, to))
	if err != nil {
		return nil, err
	}
	data, err := d.house.Part(r.Context(), permit, yesline.TrackID(r.PathValue("track")), shape, from, to)
	if err == nil && int64(len(data)) != to-from {
		err = fmt.Errorf("a window of %d bytes came back as %d: %w", to-from, len(data), yesline.Tampered)
	}
	return data, err
}

func (d *desk) mayPlay(r *http.Request, rule Rule, detail map[string]string) (access.Permit, error) {
	who, err := d.holder(r)
	if err != nil {
		return access.Permit{}, err
	}
	detail["key"] = string(who.Key())
	return d.askFor(r, who, rule, detail)
}

// length answers what carries no byte of the voice but tells its length.
func (d *desk) length(w http.ResponseWriter, r *http.Request, rule Rule, total int64, rangeErr error) error {
	if _, err := d.mayPlay(r, rule, playback.Served(0, 0)); err != nil {
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
