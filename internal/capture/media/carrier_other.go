//go:build !linux || !(amd64 || arm64)

package media

func newCarrier(p *Plane) carrier { return newSockets(p) }
