package webrtc

import (
	"crypto/hmac"
	"crypto/sha1"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"net/url"
	"strconv"
	"strings"
	"time"

	"yesline"
)

// TURN is a relay for browsers whose network lets nothing else through. Its
// operator shares a secret with us (coturn: use-auth-secret), and we give each
// person a name and password that end by themselves.
type TURN struct {
	URLs    []string       // turn:turn.example.org:3478?transport=udp
	Secret  yesline.Secret // coturn's static-auth-secret
	Seconds int            // that a password is good for; 0: 600
}

// ICEServer is what a page gives its RTCPeerConnection.
type ICEServer struct {
	URLs       []string
	Username   string
	Credential string
}

func (t *TURN) check() error {
	if len(t.URLs) == 0 || len(t.URLs) > 8 || len(t.Secret.Bytes()) < 16 || t.Seconds < 0 || t.Seconds > 86400 {
		return fmt.Errorf("a TURN server has an address, a secret of 16 bytes and more, and a day at most: %w", yesline.Invalid)
	}
	for _, u := range t.URLs {
		parsed, err := url.Parse(u)
		if err != nil || parsed.Scheme != "turn" && parsed.Scheme != "turns" || parsed.Opaque == "" || strings.ContainsAny(u, " \r\n") {
			return fmt.Errorf("a TURN server's address begins with turn: or turns: %w", yesline.Invalid)
		}
	}
	if t.Seconds == 0 {
		t.Seconds = 600
	}
	return nil
}

// Servers is the TURN servers for a person's page, with passwords of a few
// minutes. The name says when they end, and after it a label by which the
// relay can count what one person uses without knowing who that is.
func (d *Door) Servers(person yesline.PersonID) []ICEServer {
	var all []ICEServer
	for _, t := range d.cfg.TURN {
		ends := time.Now().Add(time.Duration(t.Seconds) * time.Second).Unix()
		label := hmac.New(sha256.New, t.Secret.Bytes())
		label.Write([]byte("person " + person))
		name := strconv.FormatInt(ends, 10) + ":" + hex.EncodeToString(label.Sum(nil)[:8])
		password := hmac.New(sha1.New, t.Secret.Bytes()) // what coturn computes
		password.Write([]byte(name))
		all = append(all, ICEServer{URLs: t.URLs, Username: name, Credential: base64.StdEncoding.EncodeToString(password.Sum(nil))})
	}
	return all
}

// RelayOnly reports whether pages are to use TURN alone (iceTransportPolicy
// "relay").
func (d *Door) RelayOnly() bool { return d.cfg.RelayOnly }
