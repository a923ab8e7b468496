package webtest

import (
	"github.com/chromedp/cdproto/webauthn"
	"github.com/chromedp/chromedp"
)

// Authenticator keeps passkeys for a browser, as a phone or a computer does. It
// knows its owner's finger at once.
type Authenticator struct {
	b  *Browser
	id webauthn.AuthenticatorID
}

// Authenticator gives the browser a place for passkeys. A browser has one
// inside; another must be a key that is plugged in.
func (b *Browser) Authenticator(inside bool) *Authenticator {
	b.t.Helper()
	_, err := chromedp.Call(b.ctx, webauthn.Enable, webauthn.EnableParams{})
	b.do("switching passkeys on", err)
	how := webauthn.AuthenticatorTransportUsb
	if inside {
		how = webauthn.AuthenticatorTransportInternal
	}
	made, err := chromedp.Call(b.ctx, webauthn.AddVirtualAuthenticator, webauthn.AddVirtualAuthenticatorParams{Options: &webauthn.VirtualAuthenticatorOptions{
		Protocol: webauthn.AuthenticatorProtocolCtap2, Transport: how, HasResidentKey: true, HasUserVerification: true,
		AutomaticPresenceSimulation: true, IsUserVerified: true,
	}})
	b.do("adding an authenticator", err)
	return &Authenticator{b, made.AuthenticatorID}
}

// Lose takes the authenticator away with all its passkeys.
func (a *Authenticator) Lose() {
	a.b.t.Helper()
	_, err := chromedp.Call(a.b.ctx, webauthn.RemoveVirtualAuthenticator, webauthn.RemoveVirtualAuthenticatorParams{AuthenticatorID: a.id})
	a.b.do("losing an authenticator", err)
}

// Passkeys counts what it keeps.
func (a *Authenticator) Passkeys() int {
	a.b.t.Helper()
	all, err := chromedp.Call(a.b.ctx, webauthn.GetCredentials, webauthn.GetCredentialsParams{AuthenticatorID: a.id})
	a.b.do("looking at an authenticator", err)
	return len(all.Credentials)
}

// Answers says whether the owner's finger is on it.
func (a *Authenticator) Answers(yes bool) {
	a.b.t.Helper()
	_, err := chromedp.Call(a.b.ctx, webauthn.SetAutomaticPresenceSimulation, webauthn.SetAutomaticPresenceSimulationParams{AuthenticatorID: a.id, Enabled: yes})
	a.b.do("lifting a finger", err)
}
