package demo

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"fmt"

	"yesline/internal/session"
)

// passkeys gives an account three passkeys made by an authenticator in
// software, and says their ids.
func (c *cast) passkeys(ctx context.Context, name string, who session.Principal) (ids []string, err error) {
	for n := range 3 {
		options, err := c.d.Sessions.RegisterOptions(ctx, who.Account(), handleOf(who))
		if err != nil {
			return nil, err
		}
		credential, err := register(options, c.d.Config.URL)
		if err != nil {
			return nil, err
		}
		made, err := c.d.Sessions.AddPasskey(ctx, who, fmt.Sprintf("software %d", n+1), credential)
		if err != nil {
			return nil, fmt.Errorf("adding a passkey of %s: %w", name, err)
		}
		ids = append(ids, string(made.ID))
	}
	return ids, nil
}

// handleOf is a user handle: it means nothing outside, and is the same for an
// account each time.
func handleOf(who session.Principal) []byte {
	sum := sha256.Sum256([]byte("canary " + who.Account()))
	return sum[:]
}

// register answers the options of a new passkey as a browser with an
// authenticator does that attests nothing (Web Authentication, sections 5.8.1
// and 6.5).
func register(options []byte, origin string) ([]byte, error) {
	_, credential, err := newPasskey(options, origin)
	return credential, err
}

// softPasskey is what an authenticator in software keeps of a passkey.
type softPasskey struct {
	key        *ecdsa.PrivateKey
	id, handle []byte
	rp, origin string
}

func newPasskey(options []byte, origin string) (*softPasskey, []byte, error) {
	var asked struct {
		Challenge string `json:"challenge"`
		RP        struct {
			ID string `json:"id"`
		} `json:"rp"`
		User struct {
			ID string `json:"id"`
		} `json:"user"`
	}
	if err := json.Unmarshal(options, &asked); err != nil {
		return nil, nil, fmt.Errorf("reading the options of a passkey: %w", err)
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, err
	}
	point, err := key.PublicKey.Bytes()
	if err != nil {
		return nil, nil, err
	}
	id := make([]byte, 32)
	rand.Read(id)
	const present, verified, attested = 1, 4, 64
	rp := sha256.Sum256([]byte(asked.RP.ID))
	data := append(rp[:], present|verified|attested, 0, 0, 0, 0)
	data = append(data, make([]byte, 16)...) // no model
	data = binary.BigEndian.AppendUint16(data, uint16(len(id)))
	data = append(data, id...)
	data = append(data, 0xa5, 1, 2, 3, 0x26, 0x20, 1, 0x21, 0x58, 32) // an EC2 key for ES256 on P-256; x follows
	data = append(data, point[1:33]...)
	data = append(data, 0x22, 0x58, 32) // y
	data = append(data, point[33:]...)
	object := append([]byte("\xa3\x63fmt\x64none\x67attStmt\xa0\x68authData"), 0x58, byte(len(data)))
	object = append(object, data...)
	client, err := json.Marshal(map[string]any{"type": "webauthn.create", "challenge": asked.Challenge, "origin": origin, "crossOrigin": false})
	if err != nil {
		return nil, nil, err
	}
	encode := base64.RawURLEncoding.EncodeToString
	handle, err := base64.RawURLEncoding.DecodeString(asked.User.ID)
	if err != nil {
		return nil, nil, err
	}
	credential, err := json.Marshal(map[string]any{"id": encode(id), "rawId": encode(id), "type": "public-key", "clientExtensionResults": map[string]any{},
		"response": map[string]any{"clientDataJSON": encode(client), "attestationObject": encode(object), "transports": []string{"internal"}}})
	return &softPasskey{key, id, handle, asked.RP.ID, origin}, credential, err
}
