package session

import (
	"context"
	"fmt"
	"strconv"
	"time"

	"yesline"
	"yesline/internal/db"
)

// A link is an address that works once. Its token is a person's or a staff
// member's way in, or begins a sign-up.
type link struct {
	principalRow
	claim   string
	expires int64
	mac     string
}

// claiming is the kind of a link that gives a claim and lets nobody in.
const claiming = "claim"

func (l link) parts(hash string) []string {
	return []string{"link", hash, l.kind, l.name, l.program, l.person, l.claim, strconv.FormatInt(l.expires, 10)}
}

// Link makes a sign-in link's token for who: it works once, within 15 minutes
// (an operator's within 24 hours). Machines and nobody do not sign in.
func (s *Sessions) Link(ctx context.Context, who Principal) (token string, err error) {
	if who.kind != Operator && (who.kind != Person || who.name == "" || who.program == "") {
		return "", fmt.Errorf("a sign-in link is for a person or an operator: %w", yesline.Invalid)
	}
	token, hash := newToken()
	err = s.content.Transact(ctx, func(ctx context.Context, tx *db.Tx) error { return s.insertLink(ctx, tx, who, hash) })
	if err != nil {
		return "", fmt.Errorf("making a sign-in link: %w", err)
	}
	return token, nil
}

// LinkFor is Link for a person of a program. It asks nobody whether that
// person wants it: an operator's way to a link is Invite.
func (s *Sessions) LinkFor(ctx context.Context, program yesline.ProgramID, person yesline.PersonID) (token string, err error) {
	return s.Link(ctx, Principal{kind: Person, name: string(person), program: program})
}

func (s *Sessions) insertLink(ctx context.Context, tx *db.Tx, who Principal, hash string) error {
	var l link
	l.kind, l.name, l.program, l.person = who.columns()
	life := LinkTime
	if who.kind != Person {
		life = OperatorLinkTime
	}
	return s.putLink(ctx, tx, l, hash, life)
}

func (s *Sessions) putLink(ctx context.Context, tx *db.Tx, l link, hash string, life time.Duration) (err error) {
	now := time.Now()
	l.expires = db.Millis(now.Add(life))
	if _, err := tx.Exec(ctx, `DELETE FROM links WHERE expires < $1`, db.Millis(now)); err != nil {
		return err
	}
	if l.mac, err = s.mark(ctx, l.program, l.parts(hash)...); err != nil {
		return err
	}
	_, err = tx.Exec(ctx, `INSERT INTO links (token_hash, kind, name, program, person, claim, created, expires, used, mac)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, 0, $9)`,
		hash, l.kind, l.name, l.program, l.person, l.claim, db.Millis(now), l.expires, l.mac)
	return err
}

// InviteLink makes a link for somebody whose number an operator gave. Who
// redeems it gets the claim, not a session: the number must still be proven.
// It works once, within 15 minutes.
func (s *Sessions) InviteLink(ctx context.Context, by Principal, program yesline.ProgramID, claim yesline.ClaimID) (token string, err error) {
	if by.kind == Nobody || program == "" || claim == "" {
		return "", fmt.Errorf("an invitation is somebody's, to a program, for a claim: %w", yesline.Invalid)
	}
	token, hash := newToken()
	err = s.content.Transact(ctx, func(ctx context.Context, tx *db.Tx) error {
		l := link{principalRow: principalRow{kind: claiming, program: string(program)}, claim: string(claim)}
		if err := s.putLink(ctx, tx, l, hash, LinkTime); err != nil {
			return err
		}
		e := told("invited", by, program, "")
		e.Object = string(claim)
		return s.tell(ctx, tx, e)
	})
	if err != nil {
		return "", fmt.Errorf("making an invitation's link: %w", err)
	}
	return token, nil
}

// Redeem turns a link's token into a session, once: of many who try at the
// same time one succeeds. The others, and any token that is unknown, used or
// late, or that gives a claim, get yesline.NotFound.
func (s *Sessions) Redeem(ctx context.Context, token string) (cookie string, who Principal, err error) {
	got, err := s.redeem(ctx, token, Client{}, false)
	return got.Cookie, got.Who, err
}

// RedeemAny is Redeem for every sort of link: it gives a session or a claim.
func (s *Sessions) RedeemAny(ctx context.Context, token string, from Client) (Redeemed, error) {
	return s.redeem(ctx, token, from, true)
}

func (s *Sessions) redeem(ctx context.Context, token string, from Client, claims bool) (got Redeemed, err error) {
	if len(token) != tokenLength {
		return Redeemed{}, fmt.Errorf("signing in by a link: %w", yesline.NotFound)
	}
	now := time.Now()
	err = s.content.Transact(ctx, func(ctx context.Context, tx *db.Tx) error {
		got = Redeemed{}
		l, err := s.useLink(ctx, tx, hashOf(token), now)
		if err != nil {
			return err
		}
		if l.kind == claiming {
			got.Claim = yesline.ClaimID(l.claim)
			if !claims {
				return yesline.NotFound // and the link is not used up
			}
			return nil
		}
		p := l.principal()
		if err := s.welcome(ctx, tx, p, now); err != nil {
			return err
		}
		if got.Cookie, got.Who, err = s.begin(ctx, tx, p, from, now); err != nil {
			return err
		}
		return s.tell(ctx, tx, told("signed-in", got.Who, got.Who.program, got.Who.Person()))
	})
	if err != nil {
		return Redeemed{}, fmt.Errorf("signing in by a link: %w", err)
	}
	return got, nil
}

func (s *Sessions) useLink(ctx context.Context, tx *db.Tx, hash string, now time.Time) (l link, err error) {
	changed, err := tx.Exec(ctx, `UPDATE links SET used = $1 WHERE token_hash = $2 AND used = 0 AND expires > $1`, db.Millis(now), hash)
	if err == nil && changed != 1 {
		err = yesline.NotFound
	}
	if err != nil {
		return link{}, err
	}
	if err := tx.QueryRow(ctx, `SELECT kind, name, program, person, claim, expires, mac FROM links WHERE token_hash = $1`, hash).
		Scan(&l.kind, &l.name, &l.program, &l.person, &l.claim, &l.expires, &l.mac); err != nil {
		return link{}, err
	}
	return l, s.checkMark(ctx, l.mac, l.program, l.parts(hash)...)
}
