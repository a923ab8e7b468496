package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// inDoors makes a mutant of each door that has a rule: its rule holds for
// nobody, and whoever is signed in passes, as long as the object exists. The
// question is still asked and logged; its answer is yes.
func inDoors(root string) ([]*mutant, error) {
	data, err := os.ReadFile(filepath.Join(root, "internal/attack/doors.json"))
	if err != nil {
		return nil, err
	}
	var file struct {
		Doors []struct {
			Method, Path, Sort, Param string
			Fresh                     bool
		}
	}
	if err := json.Unmarshal(data, &file); err != nil {
		return nil, err
	}
	authorize := "internal/web/authorize.go"
	// Both places where web asks the gate for a row's object tell it which door
	// it is; the gate looks whether that door is open.
	told := func(old string) string {
		return strings.Replace(old, "r.Context()", "context.WithValue(r.Context(), \"mutant\", \"door \"+r.Pattern+\": asks nobody\")", 1)
	}
	asked := []edit{
		instead(authorize, root, "permit, err := s.house.Ask(r.Context(), who, row.rule.Verb, object, row.detail)", told),
		instead(authorize, root, "return s.house.Ask(r.Context(), who, rule.Verb, object, detail)", told),
		instead("internal/access/access.go", root, "if g.passes(asker, v, o, f.Facts) && f.there {", func(string) string {
			return "if mutantDoor, _ := ctx.Value(\"mutant\").(string); (g.passes(asker, v, o, f.Facts) || mutantDoor != \"\" && mutantOn(mutantDoor)) && f.there {"
		}),
	}
	fresh := instead(authorize, root, "row.isFresh && !who.Fresh()", func(old string) string {
		return old + " && !mutantOn(\"door \"+row.pattern+\": needs no proof\")"
	})
	var all []*mutant
	for _, d := range file.Doors {
		if d.Sort == "public" || d.Sort == "local" {
			continue
		}
		door := d.Method + " " + d.Path
		if len(all) == 0 {
			all = append(all, &mutant{hidden: true, edits: append(asked, fresh)})
		}
		// A door to what is one's own names nobody else's: there its rule keeps out
		// only keys, whose scopes are the gate's own guard.
		if d.Param != "(the asker)" {
			all = append(all, &mutant{name: "door " + door + ": asks nobody", doors: door})
		}
		if d.Fresh {
			// Nobody outside can wait until a proof is old: web's own tests can.
			all = append(all, &mutant{name: "door " + door + ": needs no proof", room: "internal/web"})
		}
	}
	return all, nil
}

// atDoors runs one house with all mutants in it, switches them on one after
// the other, and sends the attack to the doors that each concerns. After a
// mutant that let somebody act, the house may be damaged: if the same attack
// finds anything without a mutant, a new house is opened.
func atDoors(ctx context.Context, o options, folder, overlay string, mutants []*mutant) error {
	binary := filepath.Join(folder, "yesline")
	build := exec.CommandContext(ctx, "go", "build", "-overlay", overlay, "-o", binary, "./cmd/yesline")
	build.Dir = o.root
	if out, err := build.CombinedOutput(); err != nil {
		return fmt.Errorf("building with the mutants: %w\n%s", err, out)
	}
	var h *target
	defer func() {
		if h != nil {
			h.close()
		}
	}()
	queue, again := slices.Clone(mutants), map[*mutant]bool{} // again: once more, in a new house
	for i := 0; i < len(queue); i++ {
		m := queue[i]
		if err := ctx.Err(); err != nil {
			return err
		}
		if h == nil {
			var err error
			if h, err = openTarget(ctx, folder, binary); err != nil {
				return err
			}
			if code, out, err := h.attack(ctx, "", m.doors); err != nil || code != 0 {
				return fmt.Errorf("the attack on a whole house at %s ends with %d, %v:\n%s", m.doors, code, err, out)
			}
		}
		code, out, err := h.attack(ctx, m.name, m.doors)
		if err != nil {
			return err
		}
		m.outcome = "survived"
		if code != 0 {
			whole, _, err := h.attack(ctx, "", m.doors)
			if err != nil || whole != 0 {
				h.close()
				h = nil
			}
			// A leak is a leak; a door that was not reached may be the fault of the
			// house, which an attack before left damaged.
			if code == 3 || whole == 0 {
				m.outcome, m.by = "caught", "the attack: "+firstLeak(out)
			} else if !again[m] {
				again[m] = true
				queue = slices.Insert(queue, i+1, m)
			}
		}
		if i%10 == 9 {
			fmt.Printf("doors                %d of %d tried\n", i+1, len(queue))
		}
	}
	return nil
}

func firstLeak(out string) string {
	for line := range strings.Lines(out) {
		if strings.Contains(line, "leak") || strings.Contains(line, "not reached") {
			return strings.TrimSpace(line)
		}
	}
	return "its exit code"
}

// target is a running demo house with mutants that are switched by a file.
type target struct {
	binary, canaries, log, url, switchFile string
	house                                  *exec.Cmd
	ended                                  chan struct{}
}

func openTarget(ctx context.Context, folder, binary string) (*target, error) {
	place, err := os.MkdirTemp(folder, "house-")
	if err != nil {
		return nil, err
	}
	t := &target{binary: binary, canaries: filepath.Join(place, "canaries.json"), switchFile: filepath.Join(place, "mutant"), ended: make(chan struct{})}
	if err := os.WriteFile(t.switchFile, nil, 0o600); err != nil {
		return nil, err
	}
	out, err := os.Create(filepath.Join(place, "out"))
	if err != nil {
		return nil, err
	}
	defer out.Close()
	t.house = exec.CommandContext(ctx, binary, "demo", "--canaries", t.canaries, "--http", "127.0.0.1:0")
	t.house.Env = append(os.Environ(), "TMPDIR="+place, "YESLINE_MUTANT_FILE="+t.switchFile)
	t.house.Stdout, t.house.Stderr = out, out
	t.house.Cancel = func() error { return t.house.Process.Signal(os.Interrupt) }
	if err := t.house.Start(); err != nil {
		return nil, err
	}
	go func() {
		defer close(t.ended)
		t.house.Wait()
	}()
	for deadline := time.Now().Add(90 * time.Second); time.Now().Before(deadline); time.Sleep(100 * time.Millisecond) {
		said, _ := os.ReadFile(out.Name())
		for line := range strings.Lines(string(said)) {
			if url, ok := strings.CutPrefix(line, "pages "); ok {
				t.url = strings.TrimSpace(url)
			}
			if log, ok := strings.CutPrefix(line, "log "); ok {
				t.log = strings.TrimSpace(log)
			}
			if strings.HasPrefix(line, "canaries ") {
				return t, nil
			}
		}
		select {
		case <-t.ended:
			return nil, fmt.Errorf("the house did not open:\n%s", tail(said))
		default:
		}
	}
	t.close()
	return nil, errors.New("the house took too long to open")
}

func (t *target) close() {
	t.house.Process.Signal(os.Interrupt)
	select {
	case <-t.ended:
	case <-time.After(20 * time.Second):
		t.house.Process.Kill()
		<-t.ended
	}
}

// attack switches a mutant on, or none, and attacks some doors.
func (t *target) attack(ctx context.Context, mutant, door string) (code int, out string, err error) {
	if err := os.WriteFile(t.switchFile, []byte(mutant), 0o600); err != nil {
		return 0, "", err
	}
	time.Sleep(30 * time.Millisecond) // the house reads it every few
	ctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	c := exec.CommandContext(ctx, t.binary, "attack", t.url, "--identities", t.canaries, "--log", t.log, "--only", door)
	data, err := c.CombinedOutput()
	if exit := (*exec.ExitError)(nil); errors.As(err, &exit) {
		return exit.ExitCode(), string(data), nil
	}
	return 0, string(data), err
}
