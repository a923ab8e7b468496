package session

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"errors"
	"testing"

	"yesline"
)

// authenticator is a passkey in software, written from the specification: it
// signs with ES256, attests nothing, and can be made to lie.
type authenticator struct {
	t        testing.TB
	key      *ecdsa.PrivateKey
	id       []byte
	handle   []byte
	count    uint32
	counting bool // security keys count; synced passkeys stay at 0
	synced   bool

	origin      string // where the browser says it is
	rpID        string
	unverified  bool // no PIN, no finger
	crossOrigin bool
	ceremony    string // instead of webauthn.create or webauthn.get
	spoil       func(reply map[string]any)
}

func newAuthenticator(t testing.TB) *authenticator {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return &authenticator{t: t, key: key, id: randomBytes(32), counting: true, origin: origin, rpID: "calls.example"}
}

// asked are the parts of the options that an authenticator looks at.
type asked struct {
	Challenge string `json:"challenge"`
	RP        struct {
		ID string `json:"id"`
	} `json:"rp"`
	User struct {
		ID string `json:"id"`
	} `json:"user"`
	Exclude []struct {
		ID string `json:"id"`
	} `json:"excludeCredentials"`
	Allow []struct {
		ID string `json:"id"`
	} `json:"allowCredentials"`
	Selection struct {
		ResidentKey      string `json:"residentKey"`
		UserVerification string `json:"userVerification"`
	} `json:"authenticatorSelection"`
	UserVerification string `json:"userVerification"`
	RPID             string `json:"rpId"`
}

func (a *authenticator) read(options []byte) (o asked) {
	a.t.Helper()
	if err := json.Unmarshal(options, &o); err != nil {
		a.t.Fatalf("the options are no JSON: %v", err)
	}
	return o
}

func (a *authenticator) clientData(ceremony, challenge string) []byte {
	if a.ceremony != "" {
		ceremony = a.ceremony
	}
	b, _ := json.Marshal(map[string]any{"type": ceremony, "challenge": challenge, "origin": a.origin, "crossOrigin": a.crossOrigin})
	return b
}

// data is the authenticator data (WebAuthn section 6.1).
func (a *authenticator) data(attested []byte) []byte {
	flags := byte(0x01) // somebody is there
	if !a.unverified {
		flags |= 0x04
	}
	if a.synced {
		flags |= 0x08 | 0x10
	}
	if attested != nil {
		flags |= 0x40
	}
	if a.counting {
		a.count++
	}
	hash := sha256.Sum256([]byte(a.rpID))
	b := append(hash[:], flags)
	b = binary.BigEndian.AppendUint32(b, a.count)
	return append(b, attested...)
}

func b64(b []byte) string { return base64.RawURLEncoding.EncodeToString(b) }

// cborBytes is the head and bytes of a byte string of up to 65,535 bytes.
func cborBytes(b []byte) []byte {
	if len(b) < 256 {
		return append([]byte{0x58, byte(len(b))}, b...)
	}
	return append([]byte{0x59, byte(len(b) >> 8), byte(len(b))}, b...)
}

// makes a passkey, as navigator.credentials.create does.
func (a *authenticator) makes(options []byte) []byte {
	o := a.read(options)
	a.handle, _ = base64.RawURLEncoding.DecodeString(o.User.ID)
	point, err := a.key.PublicKey.Bytes()
	if err != nil {
		a.t.Fatal(err)
	}
	cose := []byte{0xa5, 0x01, 0x02, 0x03, 0x26, 0x20, 0x01, 0x21}
	cose = append(cose, cborBytes(point[1:33])...)
	cose = append(cose, 0x22)
	cose = append(cose, cborBytes(point[33:])...)
	attested := make([]byte, 16) // no model
	attested = binary.BigEndian.AppendUint16(attested, uint16(len(a.id)))
	attested = append(attested, a.id...)
	attested = append(attested, cose...)
	object := []byte("\xa3\x63fmt\x64none\x67attStmt\xa0\x68authData")
	object = append(object, cborBytes(a.data(attested))...)
	return a.send(map[string]any{
		"clientDataJSON":    b64(a.clientData("webauthn.create", o.Challenge)),
		"attestationObject": b64(object),
		"transports":        []string{"internal", "hybrid"},
	})
}

// signs in, as navigator.credentials.get does.
func (a *authenticator) signs(options []byte) []byte {
	o := a.read(options)
	client := a.clientData("webauthn.get", o.Challenge)
	data := a.data(nil)
	hash := sha256.Sum256(client)
	digest := sha256.Sum256(append(bytes.Clone(data), hash[:]...))
	signature, err := ecdsa.SignASN1(rand.Reader, a.key, digest[:])
	if err != nil {
		a.t.Fatal(err)
	}
	return a.send(map[string]any{"clientDataJSON": b64(client), "authenticatorData": b64(data), "signature": b64(signature), "userHandle": b64(a.handle)})
}

func (a *authenticator) send(response map[string]any) []byte {
	reply := map[string]any{"id": b64(a.id), "rawId": b64(a.id), "type": "public-key", "authenticatorAttachment": "platform",
		"clientExtensionResults": map[string]any{"credProps": map[string]any{"rk": true}}, "response": response}
	if a.spoil != nil {
		a.spoil(reply)
	}
	b, err := json.Marshal(reply)
	if err != nil {
		a.t.Fatal(err)
	}
	return b
}

// joins makes a person an account with a passkey, as a sign-up does.
func (h *house) joins(person yesline.PersonID) (a *authenticator, cookie string, who Principal, codes []string) {
	h.t.Helper()
	a = newAuthenticator(h.t)
	claim := h.agreed()
	cookie, who, codes, err := h.Join(context.Background(), claim, h.program, person, a.makes(h.registerOptions("")), "laptop", Client{Device: "Firefox on Linux"})
	if err != nil {
		h.t.Fatalf("joining: %v", err)
	}
	return a, cookie, who, codes
}

const code = "482915"

// agreed is the cookie of somebody who gave their code and agreed.
func (h *house) agreed() string {
	h.t.Helper()
	ctx := context.Background()
	cookie, err := h.BeginClaim(ctx, h.program, yesline.NewClaimID(), yesline.NewSecret([]byte(code)))
	if err == nil {
		err = h.ProveClaim(ctx, cookie, code)
	}
	if err == nil {
		err = h.AgreeClaim(ctx, cookie, "abc123", "share")
	}
	if err != nil {
		h.t.Fatal(err)
	}
	return cookie
}

func (h *house) registerOptions(account string) []byte {
	h.t.Helper()
	o, err := h.RegisterOptions(context.Background(), account, nil)
	if err != nil {
		h.t.Fatal(err)
	}
	return o
}

func (h *house) signInOptions() []byte {
	h.t.Helper()
	o, err := h.SignInOptions(context.Background())
	if err != nil {
		h.t.Fatal(err)
	}
	return o
}

func (h *house) comesIn(a *authenticator) (cookie string, who Principal) {
	h.t.Helper()
	cookie, who, err := h.SignIn(context.Background(), a.signs(h.signInOptions()), Client{Device: "Firefox on Linux"})
	if err != nil {
		h.t.Fatalf("signing in: %v", err)
	}
	return cookie, who
}

func (h *house) staysOut(what string, reply []byte) {
	h.t.Helper()
	cookie, who, err := h.SignIn(context.Background(), reply, Client{})
	if !errors.Is(err, yesline.NotFound) || cookie != "" || who != (Principal{}) {
		h.t.Errorf("%s: signed in as %v, %v; want not found", what, who, err)
	}
}

// is checks the kind of an error.
func is(t testing.TB, what string, err, want error) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Errorf("%s: got %v, want %v", what, err, want)
	}
}
