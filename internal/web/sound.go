package web

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"os"
	"strconv"
	"time"

	"yesline"
	"yesline/internal/access"
	"yesline/internal/playback"
	"yesline/internal/session"
)

// Tickets are what sound goes out by, beside the session and the gate.
type Tickets struct {
	Issue func(ctx context.Context, permit access.Permit, purpose, client string) (token string, until time.Time, err error)
	Check func(ctx context.Context, token string, who session.Principal, track, client string) (playback.Ticket, error)
	Slide func(ctx context.Context, old playback.Ticket, permit access.Permit) (token string, until time.Time, err error)
}

func (s *Site) ticketName() string {
	if s.house.Secure {
		return "__Secure-yesline-ticket"
	}
	return "yesline-ticket"
}

// ticketCookie goes to the doors of one track and nowhere else.
func (s *Site) ticketCookie(track yesline.TrackID, token string, until time.Time) *http.Cookie {
	left := int(time.Until(until) / time.Second)
	return &http.Cookie{Name: s.ticketName(), Value: token, Path: "/tracks/" + string(track) + "/", MaxAge: max(left, 1),
		HttpOnly: true, Secure: s.house.Secure, SameSite: http.SameSiteStrictMode}
}

// toPlay is the purpose of what players get.
const toPlay = playback.Play

// clientMark is what a browser's requests have in common. Its address changes
// on the way to work, so it is not in it.
func clientMark(r *http.Request) string {
	sum := sha256.Sum256([]byte("agent:" + r.UserAgent()))
	return hex.EncodeToString(sum[:12])
}

// withTickets shows a page of a call together with a ticket for each voice that
// can be played there. Each is one question to the gate; a voice that was taken
// back meanwhile gets none.
func (s *Site) withTickets(ctx context.Context, a asked, v view, voices []voiceView) (answer, error) {
	page := show(v)
	for _, one := range voices {
		if one.Track == "" {
			continue
		}
		permit, err := s.house.Ask(ctx, a.Who, access.Listen, access.Object{Kind: "track", ID: one.Track}, map[string]string{"part": "ticket"})
		if errors.Is(err, yesline.NotFound) || errors.Is(err, yesline.Denied) {
			continue
		}
		if err != nil {
			return answer{}, err
		}
		token, until, err := s.house.Tickets.Issue(ctx, permit, toPlay, clientMark(a.Request))
		if err != nil {
			return answer{}, err
		}
		page.cookies = append(page.cookies, s.ticketCookie(yesline.TrackID(one.Track), token, until))
	}
	return page, nil
}

// carrying marks a request that came with a good ticket, so that what there is
// to know of its track may come from memory.
func (s *Site) carrying(r *http.Request, who session.Principal) *http.Request {
	k, err := r.Cookie(s.ticketName())
	if err != nil {
		return r
	}
	return s.carryingToken(r, who, k.Value, clientMark(r))
}

func (s *Site) carryingToken(r *http.Request, who session.Principal, token, client string) *http.Request {
	ticket, err := s.house.Tickets.Check(r.Context(), token, who, r.PathValue("track"), client)
	if err != nil {
		return r // whoever asks next says why
	}
	return r.WithContext(playback.Carry(r.Context(), ticket))
}

// pass writes a window and gives it back. One that was not written to its end
// is left alone: a server of HTTP/2 may still be reading it.
func (s *Site) pass(w http.ResponseWriter, window []byte) error {
	_, err := w.Write(window)
	if err == nil {
		s.house.Done(window)
	}
	return err
}

// chain is the ticket of one request: checked before each window, and slid
// with each.
type chain struct {
	site  *Site
	asked asked
	track yesline.TrackID
	token string
	until time.Time
}

func (s *Site) chainOf(a asked, track yesline.TrackID) *chain {
	c := &chain{site: s, asked: a, track: track}
	if k, err := a.Cookie(s.ticketName()); err == nil {
		c.token = k.Value
	}
	return c
}

// ask checks the ticket, asks the gate, and slides the ticket, in this order:
// without a ticket the gate is not troubled.
func (c *chain) ask(ask askFunc, detail map[string]string) (access.Permit, error) {
	ctx, client := c.asked.Context(), clientMark(c.asked.Request)
	ticket, err := c.site.house.Tickets.Check(ctx, c.token, c.asked.Who, string(c.track), client)
	if err != nil {
		return access.Permit{}, err
	}
	permit, err := ask(detail)
	if err != nil {
		return access.Permit{}, err
	}
	c.token, c.until, err = c.site.house.Tickets.Slide(ctx, ticket, permit)
	return permit, err
}

// give sends the ticket as it is now. It must come before the status.
func (c *chain) give(w http.ResponseWriter) {
	http.SetCookie(w, c.site.ticketCookie(c.track, c.token, c.until))
}

// audio serves a voice in windows. Each is authorized, and its entry durable,
// before its first byte; a 206 holds one window however much was asked for,
// and an answer to a GET without Range goes on only while the gate does.
func (s *Site) audio(w http.ResponseWriter, a asked, ask askFunc) error {
	track := yesline.TrackID(a.PathValue("track"))
	shape, err := s.shape(a, track)
	if err != nil {
		return err
	}
	total := shape.Size()
	tickets := s.chainOf(a, track)
	part, single, rangeErr := parseRange(wanted(a.Request), total)
	if rangeErr != nil || a.Method == http.MethodHead {
		return s.withoutSound(w, tickets, ask, total, rangeErr)
	}
	if !single {
		part = span{0, total, true}
	}
	end := shape.Cut(part.from, part.to, part.open)
	data, err := s.window(tickets, ask, shape, part.from, end)
	if err != nil {
		return err
	}
	tickets.give(w)
	h := soundHeaders(w)
	if single {
		h.Set("Content-Range", fmt.Sprintf("bytes %d-%d/%d", part.from, end-1, total))
		h.Set("Content-Length", strconv.Itoa(len(data)))
		w.WriteHeader(http.StatusPartialContent)
		s.pass(w, data)
		return nil
	}
	h.Set("Content-Length", strconv.FormatInt(total, 10))
	w.WriteHeader(http.StatusOK)
	for {
		if err := hurry(w); err != nil {
			panic(http.ErrAbortHandler)
		}
		if err := s.pass(w, data); err != nil || end == total {
			return nil
		}
		from := end
		end = shape.Cut(from, total, true)
		// The status is out: what ends here must look cut off, not complete.
		if data, err = s.window(tickets, ask, shape, from, end); err != nil {
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

// shape asks the house's books how to word the question to the gate. What they
// say is used for nothing else before there is a permit.
func (s *Site) shape(a asked, track yesline.TrackID) (playback.Shape, error) {
	if !yesline.IsID("trk", string(track)) {
		return playback.Shape{}, nil
	}
	shape, err := s.house.Shape(a.Context(), track)
	if errors.Is(err, yesline.NotFound) {
		return playback.Shape{}, nil
	}
	return shape, err
}

// window is one decision and the sound it permits.
func (s *Site) window(tickets *chain, ask askFunc, shape playback.Shape, from, to int64) ([]byte, error) {
	permit, err := tickets.ask(ask, shape.Served(from, to))
	if err != nil {
		return nil, err
	}
	data, err := s.house.Part(tickets.asked.Context(), permit, tickets.track, shape, from, to)
	if err == nil && int64(len(data)) != to-from {
		err = fmt.Errorf("a window of %d bytes came back as %d: %w", to-from, len(data), yesline.Tampered)
	}
	return data, err
}

// withoutSound answers what carries no byte of the voice but tells its length:
// HEAD, and a Range that cannot be.
func (s *Site) withoutSound(w http.ResponseWriter, tickets *chain, ask askFunc, total int64, rangeErr error) error {
	if _, err := tickets.ask(ask, playback.Served(0, 0)); err != nil {
		return err
	}
	tickets.give(w)
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
	tickets := s.chainOf(a, yesline.TrackID(a.PathValue("track")))
	permit, err := tickets.ask(ask, map[string]string{"part": "waveform"})
	if err != nil {
		return err
	}
	drawn, err := s.house.Peaks(a.Context(), permit, tickets.track)
	if err != nil {
		return err
	}
	data, err := drawn.MarshalBinary()
	if err != nil {
		return err
	}
	tickets.give(w)
	w.Header().Set("Content-Type", "application/octet-stream")
	w.Header().Set("Content-Length", strconv.Itoa(len(data)))
	w.Write(data)
	return nil
}
