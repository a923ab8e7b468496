package app

import (
	"context"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"yesline"
	"yesline/internal/keys"
	"yesline/internal/vault"
)

// Check is the check of the house: the log verifies, every object has a key
// and a consent that keeps it, and nothing is left of what was destroyed. It
// gives what is wrong, in words; nothing means all is well. It is for a quiet
// house: a call that ends meanwhile may look half done.
func (a *App) Check(ctx context.Context) (problems []string, err error) {
	wrong := func(format string, args ...any) { problems = append(problems, fmt.Sprintf(format, args...)) }
	report, err := a.Log.Verify(ctx)
	if err != nil {
		return nil, err
	}
	for _, p := range report.Problems {
		wrong("log: %s", p)
	}
	hasKey := map[yesline.TrackID]bool{}
	if err := a.Keys.Each(ctx, func(k keys.TrackKey) error { hasKey[k.Track] = true; return nil }); err != nil {
		return nil, err
	}
	objects, err := a.objects()
	if err != nil {
		return nil, err
	}
	known := map[yesline.TrackID]bool{}
	err = a.Register.Each(ctx, func(t vault.Recorded) error {
		known[t.ID] = true
		if t.State == vault.Destroyed {
			if hasKey[t.ID] {
				wrong("%s is destroyed and its key is still there", t.ID)
			}
			if objects[t.ID] > 0 {
				wrong("%s is destroyed and %d of its objects are still there", t.ID, objects[t.ID])
			}
			return nil
		}
		if !hasKey[t.ID] {
			wrong("%s has no key", t.ID)
		}
		if objects[t.ID] == 0 {
			wrong("%s has no object", t.ID)
		}
		s, err := a.Consent.Of(ctx, t.Call, t.Person)
		if err != nil {
			wrong("%s has no consent: %v", t.ID, err)
		} else if !s.Kept() {
			wrong("%s is kept and consent to it is %q", t.ID, s.Record)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	for id := range hasKey {
		if !known[id] {
			wrong("there is a key for %s, which is no track", id)
		}
	}
	for id := range objects {
		if !known[id] {
			wrong("there is an object of %s, which is no track", id)
		}
	}
	return problems, nil
}

// objects counts the files of each track in the vault's folder.
func (a *App) objects() (map[yesline.TrackID]int, error) {
	count := map[yesline.TrackID]int{}
	err := fs.WalkDir(os.DirFS(filepath.Join(a.Config.Data, "objects")), ".", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		id, _, _ := strings.Cut(d.Name(), ".")
		count[yesline.TrackID(id)]++
		return nil
	})
	return count, err
}
