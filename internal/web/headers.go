package web

import "net/http"

// policy lets a page load what this house serves and nothing else: no inline
// script or style, no foreign origin, no frame, no string that becomes code.
const policy = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; font-src 'self'; " +
	"media-src 'self'; connect-src 'self'; manifest-src 'self'; worker-src 'self'; form-action 'self'; " +
	"base-uri 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types yesline; report-uri /csp"

// headers go with every answer, errors and redirects included. Everything is
// personal until a handler says otherwise.
func (s *Site) headers(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Content-Security-Policy", policy)
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("Referrer-Policy", "no-referrer")
		h.Set("Cross-Origin-Opener-Policy", "same-origin")
		h.Set("Cross-Origin-Resource-Policy", "same-origin")
		h.Set("Permissions-Policy", mayUse(""))
		h.Set("Cache-Control", "no-store")
		if s.house.Secure || r.TLS != nil {
			h.Set("Strict-Transport-Security", "max-age=31536000")
		}
		next.ServeHTTP(w, r)
	})
}

// mayUse is the policy of what a page may use of the device: at most the
// microphone, and only where somebody telephones.
func mayUse(microphone string) string {
	return "microphone=(" + microphone + "), camera=(), geolocation=(), payment=(), usb=()"
}
