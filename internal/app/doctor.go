package app

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime/debug"
	"strings"
	"syscall"
	"time"

	"yesline"
)

// The doctor looks from outside, with or without a running server. It changes
// nothing, opens no database, reads no secret, and asks nobody.

// Doctor gives everything that is unsafe, or could be, in a configuration and
// in the folder and files that it names, the worst first.
func Doctor(ctx context.Context, cfg Config) ([]Finding, error) {
	cfg.complete()
	l := findings(cfg.settings())
	for _, look := range []func(*findings){cfg.lookAtRootKey, cfg.lookAtFolder, cfg.lookAtDisk, cfg.lookAtCertificate, cfg.lookAtSecret, cfg.lookAtSignalling, cfg.lookAtClock, cfg.lookAtProcess} {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		look(&l)
	}
	var sorted []Finding
	for _, level := range []Level{Refuse, Warn, Note} {
		for _, f := range l {
			if f.Level == level {
				sorted = append(sorted, f)
			}
		}
	}
	return sorted, nil
}

const (
	filesMost = 2000 // that are looked at one by one
	anybody   = 0o077
)

func (c Config) lookAtRootKey(l *findings) {
	if inside(c.Data, c.RootKey) {
		l.warn("root_key", "lies in the data folder, beside what it opens", "put it on another disk and name it in root_key; keep it out of every backup of the data")
	}
	info, err := os.Lstat(c.RootKey)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		if _, used := os.Stat(filepath.Join(c.Data, "keys.db")); used == nil {
			l.refuse("root_key", "is gone, and this house was sealed with it", "bring it back from where you keep its copy")
		}
		return
	case err != nil:
		l.warn("root_key", "cannot be looked at", "run doctor as the user that serve runs as")
		return
	case info.Mode()&os.ModeSymlink != 0:
		l.note("root_key", "is a link", "see to it that what it leads to is as closed as a root key must be")
		if info, err = os.Stat(c.RootKey); err != nil {
			return
		}
	}
	if info.Mode().Perm()&anybody != 0 || !info.Mode().IsRegular() {
		l.refuse("root_key", fmt.Sprintf("may be read by others (mode %o)", info.Mode().Perm()), "chmod 600 it, and ask who read it")
	}
	if uid, ok := owner(info); ok && uid != os.Getuid() {
		l.warn("root_key", "belongs to somebody else", "give it to the user that serve runs as")
	}
}

// inside reports whether a file lies in a folder, as far as names tell.
func inside(folder, path string) bool {
	f, err := filepath.Abs(folder)
	if err != nil {
		return false
	}
	p, err := filepath.Abs(path)
	if err != nil {
		return false
	}
	rel, err := filepath.Rel(f, p)
	return err == nil && filepath.IsLocal(rel)
}

func owner(info fs.FileInfo) (uid int, ok bool) {
	s, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return 0, false
	}
	return int(s.Uid), true
}

// lookAtFolder walks the data folder, as far as the first few thousand files.
func (c Config) lookAtFolder(l *findings) {
	info, err := os.Stat(c.Data)
	if errors.Is(err, fs.ErrNotExist) {
		l.note("data", "is not there yet", "serve makes it, closed to others, with a new root key")
		return
	}
	if err != nil || !info.IsDir() {
		l.refuse("data", "is no folder that we may look at", "name another, or run doctor as the user that serve runs as")
		return
	}
	if mode := info.Mode().Perm(); mode&anybody != 0 {
		l.warn("data", fmt.Sprintf("is open to others (mode %o)", mode), "chmod 700 it; serve does so at its start")
	}
	if uid, ok := owner(info); ok && uid != os.Getuid() {
		l.warn("data", "belongs to somebody else", "give it to the user that serve runs as, and run doctor as that user")
	}
	if above, err := os.Stat(filepath.Dir(filepath.Clean(c.Data))); err == nil && above.Mode().Perm()&0o002 != 0 && above.Mode()&os.ModeSticky == 0 {
		l.warn("data", "lies in a folder that everybody may write to", "move it to one where others cannot put something else in its place")
	}
	if inside(os.TempDir(), c.Data) {
		l.warn("data", "lies in a folder for temporary files", "move it: what lies there is deleted one day")
	}
	c.lookAtFiles(l)
	if _, err := os.Lstat(filepath.Join(c.Data, "content.db")); err == nil {
		if r, err := os.Lstat(filepath.Join(c.Data, "reserve")); err != nil || r.Size() != reserveBytes {
			l.warn("data/reserve", "is not there: on a full disk a withdrawal could not be written down", "make room; a running server makes it again")
		}
	}
}

func (c Config) lookAtFiles(l *findings) {
	open, links, foreign, seen := found{}, found{}, found{}, 0
	err := filepath.WalkDir(c.Data, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if seen++; seen > filesMost {
			return fs.SkipAll
		}
		info, err := d.Info()
		if errors.Is(err, fs.ErrNotExist) || path == c.Data {
			return nil
		}
		if err != nil {
			return err
		}
		name := shown(c.Data, path)
		switch {
		case info.Mode()&os.ModeSymlink != 0:
			links.add(name)
			return nil
		case info.Mode().Perm()&anybody != 0 && path != filepath.Clean(c.RootKey):
			open.add(name)
		}
		if uid, ok := owner(info); ok && uid != os.Getuid() {
			foreign.add(name)
		}
		return nil
	})
	if err != nil {
		l.warn("data", "has something that cannot be looked at", "run doctor as the user that serve runs as")
	}
	if info, err := os.Stat(c.Data); open.all > 0 && err == nil && info.Mode().Perm()&anybody == 0 {
		l.note(open.String(), "can be opened by others wherever it is copied to", "chmod -R go= the data folder; it is closed, so nobody can here")
	} else if open.all > 0 {
		l.warn(open.String(), "can be opened by others", "chmod -R go= the data folder")
	}
	if links.all > 0 {
		l.warn(links.String(), "leads out of the data folder", "put the file itself there; serve makes no links")
	}
	if foreign.all > 0 {
		l.warn(foreign.String(), "belongs to somebody else", "give all to the user that serve runs as")
	}
}

// found names the first of some files and counts all.
type found struct {
	first string
	all   int
}

func (f *found) add(name string) {
	if f.all++; f.all == 1 {
		f.first = name
	}
}

func (f found) String() string {
	if f.all == 1 {
		return f.first
	}
	return fmt.Sprintf("%s, like %d more,", f.first, f.all-1)
}

// shown names a file of the data folder. Ids are names of objects: they tell
// nothing of a person.
func shown(folder, path string) string {
	rel, err := filepath.Rel(folder, path)
	if err != nil || !filepath.IsLocal(rel) {
		return "data"
	}
	return "data/" + strings.Map(func(r rune) rune {
		if r < ' ' || r > '~' {
			return '?'
		}
		return r
	}, filepath.ToSlash(rel))
}

const (
	diskLow    = 1 << 30
	diskLowest = 64 << 20
	inodesLow  = 10_000 // a voice is a file
)

func (c Config) lookAtDisk(l *findings) {
	at := c.Data
	for range 64 { // the nearest folder that is there
		if _, err := os.Stat(at); err == nil {
			break
		}
		at = filepath.Dir(at)
	}
	var disk syscall.Statfs_t
	if err := syscall.Statfs(at, &disk); err != nil {
		l.warn("data", "is on a disk that cannot be looked at", "run doctor as the user that serve runs as")
		return
	}
	switch free := disk.Bavail * uint64(disk.Bsize); {
	case free < diskLowest:
		l.warn("data", "is on a full disk: no new call is recorded", "make room")
	case free < diskLow:
		l.warn("data", fmt.Sprintf("is on a disk with %d MiB left", free>>20), "make room: an hour of a call is 60 MiB, and nothing is recorded on a full disk")
	}
	if disk.Files > 0 && disk.Ffree < inodesLow {
		l.warn("data", "is on a disk that can hold few more files", "make room, or choose a file system with more inodes")
	}
	switch uint32(disk.Type) {
	case 0x01021994, 0x858458f6:
		l.warn("data", "is in memory: all is lost at the next start of this machine", "name a folder on a disk")
	case 0x6969, 0xff534d42, 0xfe534d42, 0x517b:
		l.warn("data", "is on another machine's disk: SQLite's locks do not hold there, and a database can break", "name a folder on a disk of this machine, or use PostgreSQL")
	}
}

const certificateSoon = 21 * 24 * time.Hour

func (c Config) lookAtCertificate(l *findings) {
	if c.ACME.Agree {
		c.lookAtAuthority(l)
	}
	if c.TLS.Certificate == "" || c.TLS.Key == "" {
		return
	}
	p := pair{certificate: c.TLS.Certificate, key: c.TLS.Key}
	if err := p.look(); err != nil {
		l.refuse("tls", "cannot be used", p.reason(err))
		return
	}
	if info, err := os.Stat(c.TLS.Key); err == nil && info.Mode().Perm()&anybody != 0 {
		l.note("tls.key", fmt.Sprintf("may be read by a group (mode %o)", info.Mode().Perm()), "see to it that the group is small, or chmod 600 it")
	}
	lookAtLeaf(l, p.now.Load(), c.Host())
}

// reason is an error without the path in it: the setting was named already.
func reason(err error) string {
	if p := (*fs.PathError)(nil); errors.As(err, &p) {
		return fmt.Sprintf("%s fails: %v", p.Op, p.Err)
	}
	return err.Error()
}

// reason is the same, and which of the two files it is.
func (p *pair) reason(err error) string {
	if f := (*fs.PathError)(nil); errors.As(err, &f) {
		return map[bool]string{true: "key: ", false: "certificate: "}[f.Path == p.key] + reason(err)
	}
	return reason(err)
}

func lookAtLeaf(l *findings, c *tls.Certificate, host string) {
	leaf := c.Leaf
	switch left := time.Until(leaf.NotAfter); {
	case left <= 0:
		l.warn("tls.certificate", "has ended: browsers refuse it", "put a new one in its place; it is taken within seconds")
	case left < certificateSoon:
		l.warn("tls.certificate", fmt.Sprintf("ends in %d days", int(left.Hours()/24)), "renew it, or let an authority do so ([acme])")
	case time.Now().Before(leaf.NotBefore):
		l.warn("tls.certificate", "holds from a later moment on only", "look at this machine's clock")
	}
	if leaf.VerifyHostname(host) != nil {
		l.warn("tls.certificate", "is not for the host of url", "have one made for that name")
	}
	switch k := leaf.PublicKey.(type) {
	case *rsa.PublicKey:
		if k.N.BitLen() < 2048 {
			l.warn("tls.certificate", "has an RSA key below 2048 bits", "have one made with ECDSA P-256, or RSA 3072")
		}
	case *ecdsa.PublicKey:
		if k.Curve.Params().BitSize < 256 {
			l.warn("tls.certificate", "has a short key", "have one made with ECDSA P-256")
		}
	}
	if len(c.Certificate) == 1 && !bytes.Equal(leaf.RawIssuer, leaf.RawSubject) {
		l.note("tls.certificate", "comes without those that stand between it and its root", "append them to the file, unless the root itself signed it")
	}
}

func (c Config) lookAtAuthority(l *findings) {
	if _, err := authorityRoots(c.ACME.Roots); err != nil {
		l.refuse("acme.roots", "cannot be used", reason(err))
	}
	for _, address := range []string{c.HTTP, c.TLS.Redirect} {
		if address != "" && loopback(address) {
			l.note("acme", "has to be asked by the authority, and a listener is on loopback", "see to it that ports 443 and 80 of the url's host are led here without ending TLS")
			return
		}
	}
}

func (c Config) lookAtSecret(l *findings) {
	c.lookAtOneSecret(l, "sms.secret_file", c.SMS.SecretFile, secretLeast, c.SMS.Secret)
	c.lookAtOneSecret(l, "trunk.secret_file", c.Trunk.SecretFile, 1, c.Trunk.Secret)
	c.lookAtOneSecret(l, "webrtc.turn.secret_file", c.WebRTC.TURN.SecretFile, secretLeast, c.WebRTC.TURN.Secret)
}

func (c Config) lookAtOneSecret(l *findings, about, path string, least int, read func() (yesline.Secret, error)) {
	if path == "" {
		return
	}
	secret, err := read()
	if err != nil {
		l.refuse(about, "cannot be used", reason(err))
		return
	}
	if n := len(secret.Bytes()); n < least {
		l.refuse(about, fmt.Sprintf("holds fewer than %d bytes", least), "have a longer one made, by whoever shares it with us")
	} else if n < secretLeast {
		l.note(about, "holds a short password", "ask your carrier for a longer one: whoever guesses it calls at your cost")
	}
	if inside(c.Data, path) {
		l.note(about, "lies in the data folder, and so in its backups", "put it elsewhere")
	}
}

// lookAtSignalling looks at the certificates of SIP that are not the pages'.
func (c Config) lookAtSignalling(l *findings) {
	if s := c.SIPTLS; s.Listen != "" && s.Certificate != "" && s.Key != "" && s.Certificate != c.TLS.Certificate {
		c.lookAtPair(l, "sip_tls", s.Certificate, s.Key)
	}
	if t := c.Trunk; t.Certificate != "" && t.Key != "" {
		c.lookAtPair(l, "trunk.certificate", t.Certificate, t.Key)
	}
	for about, path := range map[string]string{"sip_tls.client_ca": c.SIPTLS.ClientCA, "trunk.ca": c.Trunk.CA} {
		if path == "" {
			continue
		}
		pem, err := readSmall(about, path, 0)
		switch {
		case err != nil:
			l.refuse(about, "cannot be used", reason(err))
		case !x509.NewCertPool().AppendCertsFromPEM(pem):
			l.refuse(about, "holds no certificate", "name a file of certificates in PEM")
		}
	}
}

func (c Config) lookAtPair(l *findings, about, certificate, key string) {
	p := pair{certificate: certificate, key: key, about: strings.TrimSuffix(about, ".certificate")}
	if err := p.look(); err != nil {
		l.refuse(about, "cannot be used", p.reason(err))
		return
	}
	if left := time.Until(p.now.Load().Leaf.NotAfter); left <= 0 {
		l.warn(about, "has ended: who checks it refuses it", "put a new one in its place")
	} else if left < certificateSoon {
		l.warn(about, fmt.Sprintf("ends in %d days", int(left.Hours()/24)), "renew it")
	}
}

const secretLeast = 16

// lookAtClock compares this machine's clock with what cannot be later.
func (c Config) lookAtClock(l *findings) {
	if newest, ok := newestFile(c.Data); ok && time.Until(newest) > 2*time.Minute {
		l.warn("the clock", "is earlier than what was written in the data folder", "set it before serve starts: what ended would live again")
	}
	if built, ok := buildTime(); ok && time.Now().Before(built) {
		l.warn("the clock", "is earlier than this program", "set it, and keep it by NTP: permits, sessions and receipts hang on it")
	}
	var state syscall.Timex
	if status, err := syscall.Adjtimex(&state); err == nil && status == timeError {
		l.note("the clock", "is not kept in time, says the kernel", "run an NTP client (chrony, systemd-timesyncd); in a container the machine below may do so")
	}
}

// buildTime is when the newest change of this program was made, if it knows.
func buildTime() (time.Time, bool) {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return time.Time{}, false
	}
	for _, s := range info.Settings {
		if s.Key == "vcs.time" {
			at, err := time.Parse(time.RFC3339, s.Value)
			return at, err == nil
		}
	}
	return time.Time{}, false
}

const timeError = 5 // TIME_ERROR of adjtimex(2): not synchronized

func (c Config) lookAtProcess(l *findings) {
	if os.Geteuid() == 0 {
		l.warn("the user", "is root", "run serve and doctor as a user of their own; ports 80 and 443 need CAP_NET_BIND_SERVICE only")
	}
	var files syscall.Rlimit
	if need := uint64(c.Pages.Connections + 2*c.Calls.Most + 256); syscall.Getrlimit(syscall.RLIMIT_NOFILE, &files) == nil && files.Max < need {
		l.warn("pages.connections", fmt.Sprintf("and calls.most need %d open files, and %d are allowed", need, files.Max), "raise the limit (LimitNOFILE=), or lower the two")
	}
}

// newestFile is when the newest of the databases was written.
func newestFile(folder string) (newest time.Time, ok bool) {
	for _, name := range []string{"people.db", "keys.db", "content.db", "people.db-wal", "keys.db-wal", "content.db-wal"} {
		if info, err := os.Stat(filepath.Join(folder, name)); err == nil && info.ModTime().After(newest) {
			newest, ok = info.ModTime(), true
		}
	}
	return newest, ok
}
