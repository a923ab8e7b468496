package session

import (
	"context"
	"database/sql"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/go-webauthn/webauthn/protocol"
	"github.com/go-webauthn/webauthn/webauthn"

	"yesline"
	"yesline/internal/db"
)

// Passkeys is where passkeys are made and used: changing RPID ends them all.
type Passkeys struct {
	RPID   string // the host name of the house
	Origin string // its address without a path, such as "https://calls.example"
	Name   string // what an authenticator shows, such as "Yesline"
}

// maxCredential bounds the JSON of a reply, in bytes. Chromium's have about 1 kB.
const maxCredential = 16 << 10

// UsePasskeys lets people use passkeys. Before it they cannot.
func (s *Sessions) UsePasskeys(p Passkeys) error {
	u, err := url.Parse(p.Origin)
	if err != nil || u.Host == "" || u.Path != "" || u.RawQuery != "" || u.User != nil || p.Origin != u.Scheme+"://"+u.Host || p.RPID == "" || p.Name == "" {
		return fmt.Errorf("passkeys need a host, an origin without a path, and a name: %w", yesline.Invalid)
	}
	if host := u.Hostname(); host != p.RPID && !strings.HasSuffix(host, "."+p.RPID) {
		return fmt.Errorf("passkeys need the host of their origin: %w", yesline.Invalid)
	}
	w, err := webauthn.New(&webauthn.Config{
		RPID: p.RPID, RPDisplayName: p.Name, RPOrigins: []string{p.Origin},
		AttestationPreference: protocol.PreferNoAttestation,
		AuthenticatorSelection: protocol.AuthenticatorSelection{
			RequireResidentKey: protocol.ResidentKeyRequired(), ResidentKey: protocol.ResidentKeyRequirementRequired,
			UserVerification: protocol.VerificationRequired},
		// Some keepers of passkeys answer what nobody asked. We use none of it.
		ExtensionsUnsolicitedOutputPolicy: protocol.UnsolicitedOutputPolicyIgnore,
		Timeouts: webauthn.TimeoutsConfig{
			Login:        webauthn.TimeoutConfig{Timeout: CeremonyTime, TimeoutUVD: CeremonyTime},
			Registration: webauthn.TimeoutConfig{Timeout: CeremonyTime, TimeoutUVD: CeremonyTime}},
	})
	if err != nil {
		return fmt.Errorf("setting passkeys up: %w: %w", err, yesline.Invalid)
	}
	s.passkeys.Store(w)
	return nil
}

func (s *Sessions) ceremonies() (*webauthn.WebAuthn, error) {
	w := s.passkeys.Load()
	if w == nil {
		return nil, fmt.Errorf("passkeys are not set up: %w", yesline.Unavailable)
	}
	return w, nil
}

// owner is an account as the library wants to see it.
type owner struct {
	handle []byte
	name   string
	keys   []webauthn.Credential
}

func (o owner) WebAuthnID() []byte                         { return o.handle }
func (o owner) WebAuthnName() string                       { return o.name }
func (o owner) WebAuthnDisplayName() string                { return o.name }
func (o owner) WebAuthnCredentials() []webauthn.Credential { return o.keys }

// passkeyRow is a passkey as it lies in the table. The mark is over all that
// its use does not change.
type passkeyRow struct {
	id, account, kind, program, credential string
	publicKey                              []byte
	handle, transports                     string
	count                                  uint32
	flags                                  int64
	name                                   string
	created, used                          int64
	mac                                    string
}

const passkeyColumns = `id, account, kind, program, credential, public_key, handle, transports, sign_count, flags, name, created, used, mac`

func (r *passkeyRow) scan(scan func(...any) error) error {
	return scan(&r.id, &r.account, &r.kind, &r.program, &r.credential, &r.publicKey, &r.handle, &r.transports,
		&r.count, &r.flags, &r.name, &r.created, &r.used, &r.mac)
}

func (r *passkeyRow) parts() []string {
	return []string{"passkey", r.id, r.account, r.kind, r.program, r.credential, string(r.publicKey), r.handle, strconv.FormatInt(r.created, 10)}
}

func (r *passkeyRow) principal() Principal {
	return Principal{kind: Kind(r.kind), name: r.account, program: yesline.ProgramID(r.program)}
}

// inTheirWords is the row as the library knows it.
func (r *passkeyRow) inTheirWords() webauthn.Credential {
	id, _ := base64.RawURLEncoding.DecodeString(r.credential)
	c := webauthn.Credential{ID: id, PublicKey: r.publicKey, Flags: webauthn.NewCredentialFlags(protocol.AuthenticatorFlags(r.flags))}
	c.Authenticator.SignCount = r.count
	for _, t := range strings.Fields(r.transports) {
		c.Transport = append(c.Transport, protocol.AuthenticatorTransport(t))
	}
	return c
}

// passkeysOf reads an account's passkeys, oldest first, from the database or in
// a transaction.
func passkeysOf(ctx context.Context, query func(context.Context, string, ...any) (*sql.Rows, error), account string) (all []passkeyRow, err error) {
	rows, err := query(ctx, `SELECT `+passkeyColumns+` FROM passkeys WHERE account = $1 ORDER BY created, id LIMIT 100`, account)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	for rows.Next() {
		var r passkeyRow
		if err := r.scan(rows.Scan); err != nil {
			return nil, err
		}
		all = append(all, r)
	}
	return all, rows.Err()
}

// RegisterOptions gives the PublicKeyCredentialCreationOptions, as JSON, by
// which an account gets a further passkey, or with account "" somebody who
// joins their first. The handle is what the authenticator calls the account: it
// says nothing of anybody, and is made here when it is nil. An account that has
// a passkey keeps its handle.
func (s *Sessions) RegisterOptions(ctx context.Context, account string, handle []byte) (optionsJSON []byte, err error) {
	w, err := s.ceremonies()
	if err != nil {
		return nil, err
	}
	if len(handle) > maxHandle {
		return nil, fmt.Errorf("a handle has at most %d bytes: %w", maxHandle, yesline.Invalid)
	}
	o := owner{handle: handle, name: w.Config.RPDisplayName + " " + time.Now().UTC().Format(time.DateOnly)}
	if account != "" {
		rows, err := passkeysOf(ctx, s.content.Query, account)
		if err != nil {
			return nil, fmt.Errorf("reading passkeys: %w", err)
		}
		for _, r := range rows {
			o.handle, _ = base64.RawURLEncoding.DecodeString(r.handle)
			o.keys = append(o.keys, r.inTheirWords())
		}
	}
	if len(o.handle) == 0 {
		o.handle = randomBytes(32)
	}
	options, _, err := w.BeginRegistration(o, func(p *protocol.PublicKeyCredentialCreationOptions) error {
		p.Challenge = s.newChallenge(registering, account, o.handle)
		p.Parameters = webauthn.CredentialParametersRecommendedL3()
		p.CredentialExcludeList = webauthn.Credentials(o.keys).CredentialDescriptors()
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("making options for a passkey: %w", err)
	}
	return json.Marshal(options.Response)
}

// SignInOptions gives the PublicKeyCredentialRequestOptions, as JSON, by which
// anybody may sign in: it names no passkey, and nothing is stored.
func (s *Sessions) SignInOptions(context.Context) (optionsJSON []byte, err error) {
	return s.requestOptions(nil, s.newChallenge(signingIn, "", nil))
}

// ProofOptions gives the options by which who proves once more that it is
// them. They name the account's passkeys, so that no other is offered.
func (s *Sessions) ProofOptions(ctx context.Context, who Principal) (optionsJSON []byte, err error) {
	if who.Account() == "" || who.session == "" {
		return nil, fmt.Errorf("a proof is of somebody who signed in: %w", yesline.Denied)
	}
	rows, err := passkeysOf(ctx, s.content.Query, who.name)
	if err != nil {
		return nil, fmt.Errorf("reading passkeys: %w", err)
	}
	var keys []webauthn.Credential
	for _, r := range rows {
		keys = append(keys, r.inTheirWords())
	}
	return s.requestOptions(webauthn.Credentials(keys).CredentialDescriptors(), s.newChallenge(proving, who.name, nil))
}

func (s *Sessions) requestOptions(allowed []protocol.CredentialDescriptor, challenge []byte) ([]byte, error) {
	w, err := s.ceremonies()
	if err != nil {
		return nil, err
	}
	options, _, err := w.BeginDiscoverableLogin(webauthn.WithChallenge(challenge), webauthn.WithAllowedCredentials(allowed))
	if err != nil {
		return nil, fmt.Errorf("making options for signing in: %w", err)
	}
	return json.Marshal(options.Response)
}

// registered checks the reply to RegisterOptions for an account ("" for
// somebody who joins), and gives the row without its owner.
func (s *Sessions) registered(account string, credentialJSON []byte) (r passkeyRow, challenge string, err error) {
	w, err := s.ceremonies()
	if err != nil {
		return passkeyRow{}, "", err
	}
	refused := fmt.Errorf("reading a new passkey: %w", yesline.Invalid)
	if len(credentialJSON) > maxCredential {
		return passkeyRow{}, "", refused
	}
	reply, err := protocol.ParseCredentialCreationResponseBytes(credentialJSON)
	if err != nil {
		return passkeyRow{}, "", refused // its text may repeat what was sent
	}
	challenge = reply.Response.CollectedClientData.Challenge
	handle, err := s.readChallenge(challenge, registering, account)
	if err != nil || len(handle) == 0 || reply.Response.CollectedClientData.Origin != w.Config.RPOrigins[0] {
		return passkeyRow{}, "", refused
	}
	c, err := w.CreateCredential(owner{handle: handle}, webauthn.SessionData{Challenge: challenge, UserID: handle,
		UserVerification: protocol.VerificationRequired, CredParams: webauthn.CredentialParametersRecommendedL3()}, reply)
	if err != nil || len(c.ID) == 0 || len(c.ID) > 1023 {
		return passkeyRow{}, "", refused
	}
	r = passkeyRow{id: string(yesline.NewPasskeyID()), credential: base64.RawURLEncoding.EncodeToString(c.ID), publicKey: c.PublicKey,
		handle: base64.RawURLEncoding.EncodeToString(handle), count: c.Authenticator.SignCount, flags: int64(c.Flags.ProtocolValue()),
		created: db.Millis(time.Now())}
	for _, t := range c.Transport {
		if word := string(t); len(r.transports) < 64 && len(word) < 32 && plainWord(word) {
			r.transports += word + " "
		}
	}
	return r, challenge, nil
}

// putPasskey stores a new passkey of p.
func (s *Sessions) putPasskey(ctx context.Context, tx *db.Tx, p Principal, r passkeyRow) (err error) {
	r.account, r.kind, r.program = p.name, string(p.kind), string(p.program)
	if r.mac, err = s.mark(ctx, r.program, r.parts()...); err != nil {
		return err
	}
	n, err := tx.Exec(ctx, `INSERT INTO passkeys (`+passkeyColumns+`)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, 0, $13) ON CONFLICT DO NOTHING`,
		r.id, r.account, r.kind, r.program, r.credential, r.publicKey, r.handle, r.transports, int64(r.count), r.flags, r.name, r.created, r.mac)
	if err == nil && n != 1 {
		err = yesline.Conflict // that authenticator's passkey is known already
	}
	return err
}

// AddPasskey gives who a further passkey, from the reply to RegisterOptions.
// Whoever has one already, or a recovery code, must have proved within ProofTime
// that it is them (yesline.Stale). A reply that is wrong, late or used is yesline.Invalid; a
// passkey that is known is yesline.Conflict; the twenty-first is yesline.TooMany.
func (s *Sessions) AddPasskey(ctx context.Context, who Principal, name string, credentialJSON []byte) (Passkey, error) {
	if who.Account() == "" || who.session == "" {
		return Passkey{}, fmt.Errorf("a passkey is for an account: %w", yesline.Denied)
	}
	if !isName(name) {
		return Passkey{}, fmt.Errorf("a passkey's name is 1 to %d plain letters: %w", maxName, yesline.Invalid)
	}
	r, challenge, err := s.registered(who.name, credentialJSON)
	if err != nil {
		return Passkey{}, err
	}
	r.name = name
	err = s.content.Transact(ctx, func(ctx context.Context, tx *db.Tx) error {
		now := time.Now()
		if err := alive(ctx, tx, who, now); err != nil {
			return err
		}
		var have, codes int
		if err := tx.QueryRow(ctx, `SELECT (SELECT COUNT(*) FROM passkeys WHERE account = $1), (SELECT COUNT(*) FROM recovery_codes WHERE account = $1)`,
			who.name).Scan(&have, &codes); err != nil {
			return err
		}
		if have+codes > 0 && !who.Fresh() {
			return yesline.Stale
		}
		if have >= MaxPasskeys {
			return yesline.TooMany
		}
		if err := spend(ctx, tx, challenge, now); err != nil {
			return yesline.Invalid
		}
		if err := s.putPasskey(ctx, tx, who, r); err != nil {
			return err
		}
		return s.tell(ctx, tx, detailed(told("passkey-added", who, who.program, who.Person()), "passkey", r.id))
	})
	if err != nil {
		return Passkey{}, fmt.Errorf("adding a passkey: %w", err)
	}
	return r.shown(), nil
}

func (r *passkeyRow) shown() Passkey {
	return Passkey{ID: yesline.PasskeyID(r.id), Name: r.name, Created: r.created, Used: r.used,
		Synced: protocol.AuthenticatorFlags(r.flags).HasBackupState()}
}

// shown is a reply to SignInOptions or ProofOptions, checked against our row.
type shown struct {
	passkeyRow
	challenge string
	newCount  uint32
	newFlags  int64
	copied    bool // the counter went back: there are two of this passkey
}

// asserted checks a reply. The error is yesline.NotFound for all that is wrong
// with it.
func (s *Sessions) asserted(ctx context.Context, credentialJSON []byte, valid func(challenge string, account string) error) (got shown, err error) {
	w, err := s.ceremonies()
	if err != nil {
		return shown{}, err
	}
	refused := fmt.Errorf("reading a passkey's reply: %w", yesline.NotFound)
	if len(credentialJSON) > maxCredential {
		return shown{}, refused
	}
	reply, err := protocol.ParseCredentialRequestResponseBytes(credentialJSON)
	if err != nil {
		return shown{}, refused // its text may repeat what was sent
	}
	got.challenge = reply.Response.CollectedClientData.Challenge
	if reply.Response.CollectedClientData.Origin != w.Config.RPOrigins[0] {
		return shown{}, refused
	}
	err = got.scan(s.content.QueryRow(ctx, `SELECT `+passkeyColumns+` FROM passkeys WHERE credential = $1`,
		base64.RawURLEncoding.EncodeToString(reply.RawID)).Scan)
	if errors.Is(err, sql.ErrNoRows) {
		return shown{}, refused
	}
	if err != nil {
		return shown{}, fmt.Errorf("looking up a passkey: %w", err)
	}
	if err := valid(got.challenge, got.account); err != nil {
		return shown{}, refused
	}
	if err := s.checkMark(ctx, got.mac, got.program, got.parts()...); err != nil {
		return shown{}, fmt.Errorf("reading a passkey: %w", err)
	}
	handle, _ := base64.RawURLEncoding.DecodeString(got.handle)
	// The library compares the handle in the reply with the owner's.
	_, c, err := w.ValidatePasskeyLogin(func(_, _ []byte) (webauthn.User, error) {
		return owner{handle: handle, keys: []webauthn.Credential{got.inTheirWords()}}, nil
	}, webauthn.SessionData{Challenge: got.challenge, UserVerification: protocol.VerificationRequired}, reply)
	if err != nil {
		return shown{}, refused
	}
	got.newCount, got.newFlags, got.copied = c.Authenticator.SignCount, int64(c.Flags.ProtocolValue()), c.Authenticator.CloneWarning
	return got, nil
}

// use spends the challenge and notes the passkey's use. The error is
// yesline.NotFound when either was used meanwhile.
func (got *shown) use(ctx context.Context, tx *db.Tx, now time.Time) error {
	if err := spend(ctx, tx, got.challenge, now); err != nil {
		return err
	}
	n, err := tx.Exec(ctx, `UPDATE passkeys SET sign_count = $1, flags = $2, used = $3 WHERE id = $4 AND sign_count = $5`,
		int64(got.newCount), got.newFlags, db.Millis(now), got.id, int64(got.count))
	if err == nil && n != 1 {
		err = yesline.NotFound
	}
	return err
}

// refuseCopied tells the owner that there are two of a passkey. Its challenge
// is spent, so that one reply is told once.
func (s *Sessions) refuseCopied(ctx context.Context, got shown) error {
	return s.content.Transact(ctx, func(ctx context.Context, tx *db.Tx) error {
		if err := spend(ctx, tx, got.challenge, time.Now()); err != nil {
			return err
		}
		p := got.principal()
		e := detailed(told("passkey-copied", p, p.program, p.Person()), "passkey", got.id)
		e.Result = "refused"
		return s.tell(ctx, tx, e)
	})
}

// SignIn opens a session from the reply to SignInOptions. The error is
// yesline.NotFound for anything wrong: an unknown passkey, a wrong signature,
// another origin, a challenge that is late, used or not ours. A passkey whose
// counter goes back is refused, and its owner is told.
func (s *Sessions) SignIn(ctx context.Context, credentialJSON []byte, from Client) (cookie string, who Principal, err error) {
	got, err := s.asserted(ctx, credentialJSON, func(challenge, _ string) error {
		_, err := s.readChallenge(challenge, signingIn, "")
		return err
	})
	if err != nil {
		return "", Principal{}, err
	}
	if got.copied {
		if err := s.refuseCopied(ctx, got); err != nil && !errors.Is(err, yesline.NotFound) {
			return "", Principal{}, fmt.Errorf("telling of a copied passkey: %w", err)
		}
		return "", Principal{}, fmt.Errorf("signing in by a copied passkey: %w", yesline.NotFound)
	}
	err = s.content.Transact(ctx, func(ctx context.Context, tx *db.Tx) error {
		now := time.Now()
		if err := got.use(ctx, tx, now); err != nil {
			return err
		}
		if cookie, who, err = s.begin(ctx, tx, got.principal(), from, now); err != nil {
			return err
		}
		return s.tell(ctx, tx, detailed(told("signed-in", who, who.program, who.Person()), "passkey", got.id))
	})
	if err != nil {
		return "", Principal{}, fmt.Errorf("signing in by a passkey: %w", err)
	}
	return cookie, who, nil
}

// Prove makes the session of who fresh, from the reply to ProofOptions or
// SignInOptions by a passkey of the same account. Anything else is
// yesline.Denied.
func (s *Sessions) Prove(ctx context.Context, who Principal, credentialJSON []byte) (Principal, error) {
	refused := fmt.Errorf("proving once more who it is: %w", yesline.Denied)
	got, err := s.asserted(ctx, credentialJSON, func(challenge, account string) error {
		if account != who.name {
			return yesline.NotFound
		}
		if _, err := s.readChallenge(challenge, proving, account); err == nil {
			return nil
		}
		_, err := s.readChallenge(challenge, signingIn, "")
		return err
	})
	if err == nil && got.copied {
		if err = s.refuseCopied(ctx, got); err == nil {
			err = yesline.NotFound
		}
	}
	if err == nil {
		err = s.content.Transact(ctx, func(ctx context.Context, tx *db.Tx) error {
			now := time.Now()
			if err := got.use(ctx, tx, now); err != nil {
				return err
			}
			if err := s.freshen(ctx, tx, who, now); err != nil {
				return err
			}
			who.proved = db.Millis(now)
			return s.tell(ctx, tx, detailed(told("proved", who, who.program, who.Person()), "passkey", got.id))
		})
	}
	if errors.Is(err, yesline.NotFound) {
		return Principal{}, refused
	}
	if err != nil {
		return Principal{}, fmt.Errorf("proving once more who it is: %w", err)
	}
	return who, nil
}

// PasskeysOf lists an account's passkeys, oldest first.
func (s *Sessions) PasskeysOf(ctx context.Context, account string) ([]Passkey, error) {
	rows, err := passkeysOf(ctx, s.content.Query, account)
	if err != nil {
		return nil, fmt.Errorf("listing passkeys: %w", err)
	}
	all := make([]Passkey, 0, len(rows))
	for _, r := range rows {
		all = append(all, r.shown())
	}
	return all, nil
}

// RenamePasskey gives a passkey of who another name.
func (s *Sessions) RenamePasskey(ctx context.Context, who Principal, id yesline.PasskeyID, name string) error {
	if !isName(name) {
		return fmt.Errorf("a passkey's name is 1 to %d plain letters: %w", maxName, yesline.Invalid)
	}
	return s.rename(ctx, who, `UPDATE passkeys SET name = $1 WHERE id = $2 AND account = $3`, name, string(id))
}

// RemovePasskey ends a passkey of who. The error is yesline.Stale if they have
// not proved lately that it is them, and yesline.Conflict if it is their last
// way in: no other passkey and no recovery code would be left.
func (s *Sessions) RemovePasskey(ctx context.Context, who Principal, id yesline.PasskeyID) error {
	if err := proven(who); err != nil {
		return err
	}
	err := s.content.Transact(ctx, func(ctx context.Context, tx *db.Tx) error {
		if err := alive(ctx, tx, who, time.Now()); err != nil {
			return err
		}
		n, err := tx.Exec(ctx, `DELETE FROM passkeys WHERE id = $1 AND account = $2`, string(id), who.name)
		if err != nil {
			return err
		}
		if n == 0 {
			return yesline.NotFound
		}
		var left bool
		if err := tx.QueryRow(ctx, `SELECT EXISTS (SELECT 1 FROM passkeys WHERE account = $1) OR EXISTS (SELECT 1 FROM recovery_codes WHERE account = $1)`,
			who.name).Scan(&left); err != nil {
			return err
		}
		if !left {
			return yesline.Conflict
		}
		return s.tell(ctx, tx, detailed(told("passkey-removed", who, who.program, who.Person()), "passkey", string(id)))
	})
	if err != nil {
		return fmt.Errorf("removing a passkey: %w", err)
	}
	return nil
}

// HasAccount reports whether a person can sign in or call by any way that works
// now: a passkey, a recovery code, a session, an API key, a phone or a link.
func (s *Sessions) HasAccount(ctx context.Context, person yesline.PersonID) (has bool, err error) {
	now := time.Now()
	err = s.content.QueryRow(ctx, `SELECT EXISTS (SELECT 1 FROM passkeys WHERE account = $1)
		OR EXISTS (SELECT 1 FROM recovery_codes WHERE account = $1)
		OR EXISTS (SELECT 1 FROM sessions WHERE account = $1 AND ended = 0 AND expires > $2 AND seen > $3)
		OR EXISTS (SELECT 1 FROM api_keys WHERE account = $1 AND expires > $2)
		OR EXISTS (SELECT 1 FROM devices WHERE person = $1)
		OR EXISTS (SELECT 1 FROM links WHERE person = $1 AND used = 0 AND expires > $2)`,
		string(person), db.Millis(now), db.Millis(now.Add(-IdleTime))).Scan(&has)
	if err != nil {
		return false, fmt.Errorf("looking for an account: %w", err)
	}
	return has, nil
}
