package main

import (
	"cmp"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// plant writes changed copies of the files with all mutants behind switches,
// and the overlay that names them.
func plant(root, folder string, all []*mutant) (overlay string, err error) {
	type place struct {
		file     string
		from, to int
	}
	chains := map[place][]func(string) string{}
	for _, m := range all {
		for _, e := range m.edits {
			at := place{e.file, e.from, e.to}
			chains[at] = append(chains[at], func(old string) string {
				return strings.ReplaceAll(e.change(old), "\x00", strconv.Quote(m.name))
			})
		}
	}
	byFile := map[string][]place{}
	for at := range chains {
		byFile[at.file] = append(byFile[at.file], at)
	}
	replace := map[string]string{}
	rooms := map[string]string{} // folder -> package name
	for file, places := range byFile {
		text, err := os.ReadFile(filepath.Join(root, file))
		if err != nil {
			return "", err
		}
		slices.SortFunc(places, func(a, b place) int { return cmp.Or(cmp.Compare(b.from, a.from), cmp.Compare(b.to, a.to)) })
		for i, at := range places {
			if i > 0 && at.to > places[i-1].from {
				return "", fmt.Errorf("two mutants overlap in %s at %d", file, at.from)
			}
			old := string(text[at.from:at.to])
			for _, change := range chains[at] {
				old = change(old)
			}
			text = slices.Concat(text[:at.from], []byte(old), text[at.to:])
		}
		copied := filepath.Join(folder, strings.ReplaceAll(file, "/", "_"))
		if err := os.WriteFile(copied, text, 0o600); err != nil {
			return "", err
		}
		replace[filepath.Join(root, file)] = copied
		rooms[filepath.Dir(file)] = packageName(string(text))
	}
	for room, name := range rooms {
		copied := filepath.Join(folder, strings.ReplaceAll(room, "/", "_")+"_switch.go")
		if err := os.WriteFile(copied, []byte(strings.Replace(switches, "package x", "package "+name, 1)), 0o600); err != nil {
			return "", err
		}
		replace[filepath.Join(root, room, "mutant_switch.go")] = copied
	}
	data, err := json.Marshal(map[string]any{"Replace": replace})
	if err != nil {
		return "", err
	}
	overlay = filepath.Join(folder, "overlay.json")
	return overlay, os.WriteFile(overlay, data, 0o600)
}

func packageName(text string) string {
	for line := range strings.Lines(text) {
		if name, ok := strings.CutPrefix(line, "package "); ok {
			return strings.TrimSpace(name)
		}
	}
	return ""
}

// switches is the file that each mutated package gets. The mutant that is on is
// named by the environment, or by a file that is read again every few
// milliseconds. With a trace, each switch that is asked leaves its name there.
const switches = `package x

import (
	"os"
	"sync"
	"sync/atomic"
	"time"
)

var mutantSeen sync.Map
var mutantNow atomic.Pointer[string]
var mutantRead atomic.Int64

func mutantOn(name string) bool {
	if trace := os.Getenv("YESLINE_MUTANT_TRACE"); trace != "" {
		if _, seen := mutantSeen.LoadOrStore(name, true); !seen {
			if f, err := os.OpenFile(trace, os.O_APPEND|os.O_WRONLY|os.O_CREATE, 0o600); err == nil {
				f.WriteString(name + "\n")
				f.Close()
			}
		}
	}
	if file := os.Getenv("YESLINE_MUTANT_FILE"); file != "" {
		now := time.Now().UnixMilli()
		if last := mutantRead.Load(); last == 0 || now-last > 5 || now < last {
			mutantRead.Store(now)
			data, _ := os.ReadFile(file)
			text := string(data)
			mutantNow.Store(&text)
		}
		text := mutantNow.Load()
		return text != nil && *text == name
	}
	return os.Getenv("YESLINE_MUTANT") == name
}

func mutantText(name, changed, text string) string {
	if mutantOn(name) {
		return changed
	}
	return text
}

func mutantTime(name string, d time.Duration) time.Duration {
	if mutantOn(name) {
		return 100 * d
	}
	return d
}

var _ = mutantText
var _ = mutantTime
`
