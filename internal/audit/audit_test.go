package audit_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"yesline"
	"yesline/internal/audit"
	"yesline/internal/db"
	"yesline/internal/db/dbtest"
	"yesline/internal/keys/keystest"
)

func heard(program yesline.ProgramID, person yesline.PersonID, object string) audit.Entry {
	return audit.Entry{Program: program, Actor: string(person), Verb: "listen", Object: object, Result: "allowed",
		Detail: map[string]string{"seconds": "0-16"}, Subjects: []yesline.PersonID{person}}
}

// story writes n entries about ann in the content database and one in each of
// the others.
func story(t testing.TB, h *keystest.House, n int) (yesline.ProgramID, yesline.PersonID, []audit.Ref) {
	t.Helper()
	ctx := context.Background()
	program := h.Program(t)
	ann := h.Person(t, program)
	var refs []audit.Ref
	for i := range n {
		ref, err := h.Log.Append(ctx, heard(program, ann, fmt.Sprint("trk_", i)))
		if err != nil {
			t.Fatal(err)
		}
		refs = append(refs, ref)
	}
	for _, d := range []*db.DB{h.People, h.KeysDB} {
		if err := d.Transact(ctx, func(ctx context.Context, tx *db.Tx) error {
			ref, err := h.Log.Record(ctx, tx, heard(program, ann, "in "+d.Name))
			refs = append(refs, ref)
			return err
		}); err != nil {
			t.Fatal(err)
		}
	}
	if err := h.Log.Flush(ctx); err != nil {
		t.Fatal(err)
	}
	return program, ann, refs
}

func TestEntriesAreFoundAndProven(t *testing.T) {
	t.Parallel()
	dbtest.Each(t, func(t *testing.T, open func(string) *db.DB) {
		ctx := t.Context()
		h := keystest.Open(t, open)
		_, ann, refs := story(t, h, 300) // over a tile's width
		for _, i := range []int{0, 255, 256, 299, 300, 301} {
			e, err := h.Log.Find(ctx, refs[i])
			if err != nil || e.Verb != "listen" || e.Actor != string(ann) {
				t.Errorf("entry %d: %v %v", i, e, err)
			}
		}
		lines, err := h.Log.About(ctx, ann, "", 0, 200)
		if err != nil || len(lines) != 200 {
			t.Fatalf("about ann: %d lines, %v", len(lines), err)
		}
		if lines[0].Entry.AtMillis < lines[199].Entry.AtMillis {
			t.Error("the newest is not first")
		}
		if lines, err := h.Log.About(ctx, ann, "trk_7", 0, 10); err != nil || len(lines) != 1 {
			t.Errorf("about one track: %v %v", lines, err)
		}
		if lines, err := h.Log.About(ctx, yesline.NewPersonID(), "", 0, 10); err != nil || len(lines) != 0 {
			t.Errorf("about somebody else: %v %v", lines, err)
		}
		r, err := h.Log.Verify(ctx)
		if err != nil || len(r.Problems) > 0 || r.Entries < 302 {
			t.Errorf("verify: %+v %v", r, err)
		}
	})
}

func TestManyWritersShareCommits(t *testing.T) {
	t.Parallel()
	dbtest.Each(t, func(t *testing.T, open func(string) *db.DB) {
		ctx := t.Context()
		h := keystest.Open(t, open)
		program := h.Program(t)
		ann := h.Person(t, program)
		var wg sync.WaitGroup
		for range 16 {
			wg.Go(func() {
				for range 20 {
					if _, err := h.Log.Append(ctx, heard(program, ann, "trk_x")); err != nil {
						t.Error(err)
					}
				}
			})
		}
		wg.Wait()
		r, err := h.Log.Verify(ctx)
		if err != nil || len(r.Problems) > 0 || r.Pending != 0 {
			t.Errorf("verify: %+v %v", r, err)
		}
		if lines, err := h.Log.About(ctx, ann, "trk_x", 0, 200); err != nil || len(lines) != 200 {
			t.Errorf("%d lines, %v", len(lines), err)
		}
	})
}

func TestAppendRefusesToRunInsideATransaction(t *testing.T) {
	t.Parallel()
	h := keystest.Open(t, dbtest.SQLite(t))
	err := h.Content.Transact(t.Context(), func(ctx context.Context, tx *db.Tx) error {
		_, err := h.Log.Append(ctx, audit.Entry{Actor: "svc:test", Verb: "test", Result: "done"})
		return err
	})
	if err == nil || !strings.Contains(err.Error(), "inside a transaction") {
		t.Errorf("got %v", err)
	}
}

func TestARolledBackRecordIsNotInTheLog(t *testing.T) {
	t.Parallel()
	dbtest.Each(t, func(t *testing.T, open func(string) *db.DB) {
		ctx := t.Context()
		h := keystest.Open(t, open)
		var ref audit.Ref
		h.Content.Transact(ctx, func(ctx context.Context, tx *db.Tx) (err error) {
			ref, err = h.Log.Record(ctx, tx, audit.Entry{Actor: "svc:test", Verb: "test", Result: "done"})
			return errors.Join(err, errors.New("changed my mind"))
		})
		if _, err := h.Log.Find(ctx, ref); !errors.Is(err, yesline.NotFound) {
			t.Errorf("got %v", err)
		}
	})
}

// Every way to tamper with the rows is found, and the row is named.
func TestTamperingIsFoundAndNamed(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		where string // which database
		sql   []string
		want  string
	}{
		"removed":               {"content", []string{`DELETE FROM audit_leaves WHERE seq = 5`}, "entry 5 is gone"},
		"leaf changed":          {"content", []string{`UPDATE audit_leaves SET leaf = (SELECT leaf FROM audit_leaves WHERE seq = 6) WHERE seq = 5`}, "entry 5 was changed"},
		"part changed":          {"content", []string{`UPDATE audit_parts SET sealed = (SELECT sealed FROM audit_parts WHERE object = 'trk_1') WHERE object = 'trk_2'`}, "was changed: part 0"},
		"part removed":          {"content", []string{`DELETE FROM audit_parts WHERE object = 'trk_2'`}, "it has 0 parts"},
		"inserted at the end":   {"content", []string{`INSERT INTO audit_leaves (id, seq, leaf, mac) SELECT 'ent_forged', 1000, leaf, mac FROM audit_leaves WHERE seq = 5`}, "entry 1000 in content was inserted"},
		"reordered":             {"content", []string{`UPDATE audit_leaves SET seq = -7 WHERE seq = 5`, `UPDATE audit_leaves SET seq = 5 WHERE seq = 6`, `UPDATE audit_leaves SET seq = 6 WHERE seq = -7`}, "entry 5 was reordered: its row stands at 6"},
		"foreign removed":       {"keys", []string{`DELETE FROM audit_leaves WHERE id = (SELECT MAX(id) FROM audit_leaves)`}, "is gone"},
		"foreign inserted":      {"people", []string{`INSERT INTO audit_leaves (id, seq, leaf, mac) SELECT 'ent_forged', 2, leaf, mac FROM audit_leaves`}, "in people was inserted"},
		"checkpoint forged":     {"content", []string{`UPDATE audit_checkpoints SET note = REPLACE(note, 'yesline', 'yesl1ne')`}, "signature does not hold"},
		"hidden from a person":  {"content", []string{`UPDATE audit_parts SET person = NULL WHERE object = 'trk_2'`}, "does not carry the house's mark"},
		"called forgotten":      {"content", []string{`UPDATE audit_parts SET person = '' WHERE object = 'trk_2'`}, "does not carry the house's mark"},
		"moved in time":         {"content", []string{`UPDATE audit_parts SET at = 4611686018427387904 WHERE object = 'trk_2'`}, "does not carry the house's mark"},
		"under another object":  {"content", []string{`UPDATE audit_parts SET object = 'trk_99' WHERE object = 'trk_2'`}, "does not carry the house's mark"},
		"inserted to be signed": {"content", []string{`INSERT INTO audit_pending (id, entries) SELECT 'ent_forged', leaf FROM audit_leaves WHERE seq = 5`}, "that waits in the journal"},
		"checkpoints removed":   {"content", []string{`DELETE FROM audit_checkpoints`}, "that was kept elsewhere is not in the log"},
		"rolled back":           {"content", []string{`DELETE FROM audit_leaves WHERE seq IS NOT NULL`, `DELETE FROM audit_foreign`, `DELETE FROM audit_checkpoints`, `DELETE FROM audit_tiles`, `UPDATE audit_head SET size = 0`}, "that was kept elsewhere is not in the log"},
		"row and tile together": {"content", []string{`UPDATE audit_leaves SET leaf = (SELECT leaf FROM audit_leaves WHERE seq = 6) WHERE seq = 5`, `UPDATE audit_tiles SET hashes = substr(hashes, 1, 160) || substr(hashes, 193, 32) || substr(hashes, 193) WHERE level = 0 AND n = 0`}, "the root that was signed"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dbtest.Each(t, func(t *testing.T, open func(string) *db.DB) {
				ctx := t.Context()
				h := keystest.Open(t, open)
				story(t, h, 20)
				d := map[string]*db.DB{"content": h.Content, "keys": h.KeysDB, "people": h.People}[c.where]
				if err := d.Transact(ctx, func(ctx context.Context, tx *db.Tx) error {
					for _, q := range c.sql {
						if _, err := tx.Exec(ctx, q); err != nil {
							return err
						}
					}
					return nil
				}); err != nil {
					t.Fatal(err)
				}
				r, err := h.Log.Verify(ctx)
				if err != nil {
					t.Fatal(err)
				}
				if !strings.Contains(strings.Join(r.Problems, "\n"), c.want) {
					t.Errorf("got %q, want one with %q", r.Problems, c.want)
				}
			})
		})
	}
}

// A crash between the two steps of numbering a foreign leaf numbers it once.
func TestForeignLeavesAreNumberedOnce(t *testing.T) {
	t.Parallel()
	dbtest.Each(t, func(t *testing.T, open func(string) *db.DB) {
		ctx := t.Context()
		h := keystest.Open(t, open)
		story(t, h, 3)
		id, entries := journaled(t, h.Log, h.People)
		before, err := h.Log.Checkpoint(ctx)
		if err != nil {
			t.Fatal(err)
		}
		change(t, h.People, `DELETE FROM audit_leaves WHERE id = $1`, id)
		change(t, h.People, `DELETE FROM audit_parts WHERE leaf_id = $1`, id)
		change(t, h.People, `INSERT INTO audit_pending (id, entries) VALUES ($1, $2)`, id, entries)
		if err := h.Log.Flush(ctx); err != nil {
			t.Fatal(err)
		}
		after, err := h.Log.Checkpoint(ctx)
		if err != nil || after.Size != before.Size {
			t.Errorf("the log grew from %d to %d, %v", before.Size, after.Size, err)
		}
		if r, err := h.Log.Verify(ctx); err != nil || len(r.Problems) > 0 {
			t.Errorf("%v %v", r.Problems, err)
		}
	})
}

// journaled writes an entry in d and gives the row it waited in; it has its
// number by now.
func journaled(t *testing.T, l *audit.Log, d *db.DB) (id string, entries []byte) {
	t.Helper()
	err := d.Transact(t.Context(), func(ctx context.Context, tx *db.Tx) error {
		ref, err := l.Record(ctx, tx, audit.Entry{Actor: "svc:test", Verb: "test", Result: "done"})
		if err != nil {
			return err
		}
		id = string(ref.Leaf)
		return tx.QueryRow(ctx, `SELECT entries FROM audit_pending WHERE id = $1`, id).Scan(&entries)
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := l.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	return id, entries
}

func change(t *testing.T, d *db.DB, q string, args ...any) {
	t.Helper()
	if err := d.Transact(t.Context(), func(ctx context.Context, tx *db.Tx) error {
		_, err := tx.Exec(ctx, q, args...)
		return err
	}); err != nil {
		t.Fatal(err)
	}
}

// What somebody else put into the journal is never signed, be it made up, taken
// from another database, cut, or played again; and what is not signed stops the
// reads within seconds instead of going on unsigned.
func TestNobodyElsesRowsAreSigned(t *testing.T) {
	t.Parallel()
	forged := map[string]func(t *testing.T, h *keystest.House) []byte{
		"made up": func(*testing.T, *keystest.House) []byte { return []byte("made up") },
		"of another database": func(t *testing.T, h *keystest.House) []byte {
			_, b := journaled(t, h.Log, h.People)
			return b
		},
		"played again": func(t *testing.T, h *keystest.House) []byte {
			_, b := journaled(t, h.Log, h.Content)
			return b
		},
		"cut": func(t *testing.T, h *keystest.House) []byte {
			_, b := journaled(t, h.Log, h.Content)
			return b[:len(b)-1]
		},
	}
	for name, make := range forged {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dbtest.Each(t, func(t *testing.T, open func(string) *db.DB) {
				ctx := t.Context()
				h := keystest.Open(t, open)
				program, ann, _ := story(t, h, 3)
				b := make(t, h)
				before, err := h.Log.Checkpoint(ctx)
				if err != nil {
					t.Fatal(err)
				}
				change(t, h.Content, `INSERT INTO audit_pending (id, entries) VALUES ('ent_forged', $1)`, b)
				if err := h.Log.Flush(ctx); !errors.Is(err, yesline.Tampered) {
					t.Errorf("numbering a forged row: %v", err)
				}
				if after, err := h.Log.Checkpoint(ctx); err != nil || after.Size != before.Size {
					t.Errorf("the log went from %d to %d, %v", before.Size, after.Size, err)
				}
				if name != "made up" {
					return
				}
				for began := time.Now(); time.Since(began) < 13*time.Second; time.Sleep(200 * time.Millisecond) {
					if _, err := h.Log.Append(ctx, heard(program, ann, "trk_x")); errors.Is(err, yesline.Unavailable) {
						return
					}
				}
				t.Error("reads go on though their entries get no numbers")
			})
		})
	}
}

// Somebody who rewrites one database contradicts the checkpoints in the others:
// nothing is signed on top of it.
func TestARewrittenLogIsNotSigned(t *testing.T) {
	t.Parallel()
	for name, rewrite := range map[string][]string{
		"another leaf in its tile": {`UPDATE audit_tiles SET hashes = substr(hashes, 1, 160) || substr(hashes, 193, 32) || substr(hashes, 193) WHERE level = 0 AND n = 0`, `DELETE FROM audit_checkpoints`},
		"from the beginning":       {`DELETE FROM audit_leaves`, `DELETE FROM audit_foreign`, `DELETE FROM audit_checkpoints`, `DELETE FROM audit_tiles`, `UPDATE audit_head SET size = 0`},
		"a leaf alone":             {`UPDATE audit_tiles SET hashes = substr(hashes, 1, 160) || substr(hashes, 193, 32) || substr(hashes, 193) WHERE level = 0 AND n = 0`},
		"a tile cut":               {`UPDATE audit_tiles SET hashes = substr(hashes, 1, 100)`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dbtest.Each(t, func(t *testing.T, open func(string) *db.DB) {
				ctx := t.Context()
				h := keystest.Open(t, open)
				program, ann, _ := story(t, h, 20)
				if err := h.Content.Transact(ctx, func(ctx context.Context, tx *db.Tx) error {
					for _, q := range rewrite {
						if _, err := tx.Exec(ctx, q); err != nil {
							return err
						}
					}
					return nil
				}); err != nil {
					t.Fatal(err)
				}
				if _, err := h.Log.Append(ctx, heard(program, ann, "trk_x")); err != nil {
					t.Fatal(err)
				}
				if err := h.Log.Flush(ctx); !errors.Is(err, yesline.Tampered) {
					t.Errorf("numbering after it: %v", err)
				}
				if r, err := h.Log.Verify(ctx); err != nil || len(r.Problems) == 0 {
					t.Errorf("verify: %v %v", r.Problems, err)
				}
			})
		})
	}
}

// Forgetting a person leaves the other subject's part and a log that verifies.
func TestForgettingLeavesAWholeLog(t *testing.T) {
	t.Parallel()
	dbtest.Each(t, func(t *testing.T, open func(string) *db.DB) {
		ctx := t.Context()
		h := keystest.Open(t, open)
		program := h.Program(t)
		ann, bob := h.Person(t, program), h.Person(t, program)
		both := heard(program, ann, "cal_x")
		both.Subjects = []yesline.PersonID{ann, bob}
		ref, err := h.Log.Append(ctx, both)
		if err != nil {
			t.Fatal(err)
		}
		if err := h.Log.Forget(ctx, ann); err != nil {
			t.Fatal(err)
		}
		if err := h.Keys.Forget(ctx, ann); err != nil {
			t.Fatal(err)
		}
		if e, err := h.Log.Find(ctx, ref); err != nil || e.Object != "cal_x" {
			t.Errorf("the other's part: %v %v", e, err)
		}
		if lines, err := h.Log.About(ctx, ann, "", 0, 10); err != nil || len(lines) != 0 {
			t.Errorf("about somebody forgotten: %v %v", lines, err)
		}
		if lines, err := h.Log.About(ctx, bob, "", 0, 10); err != nil || len(lines) != 1 {
			t.Errorf("about the other: %v %v", lines, err)
		}
		if r, err := h.Log.Verify(ctx); err != nil || len(r.Problems) > 0 {
			t.Errorf("%v %v", r.Problems, err)
		}
	})
}

func TestReceiptsVerifyOffline(t *testing.T) {
	t.Parallel()
	h := keystest.Open(t, dbtest.SQLite(t))
	ctx := t.Context()
	_, ann, refs := story(t, h, 5)
	data, err := h.Log.Receipt(ctx, refs[2], ann)
	if err != nil {
		t.Fatal(err)
	}
	key := h.Log.VerifierKey()
	e, err := audit.VerifyReceipt(data, key)
	if err != nil || e.Object != "trk_2" {
		t.Fatalf("got %v, %v", e, err)
	}
	if _, err := h.Log.Receipt(ctx, refs[2], yesline.NewPersonID()); !errors.Is(err, yesline.NotFound) {
		t.Errorf("a receipt for a stranger: %v", err)
	}
	var r map[string]any
	json.Unmarshal(data, &r)
	for field := range r {
		if field == "key" {
			continue // informative: the caller brings the key
		}
		forged := map[string]any{}
		for k, v := range r {
			forged[k] = v
		}
		switch v := r[field].(type) {
		case string:
			forged[field] = strings.Replace(v, v[len(v)/2:len(v)/2+1], "#", 1)
		case float64:
			forged[field] = v + 1
		case []any:
			forged[field] = v[1:]
		}
		bytes, _ := json.Marshal(forged)
		if _, err := audit.VerifyReceipt(bytes, key); err == nil {
			t.Errorf("a receipt with another %s verifies", field)
		}
	}
	// Another checkpoint of the same words under no signature of the house's.
	var whole struct{ Checkpoint string }
	json.Unmarshal(data, &whole)
	words, signature, _ := strings.Cut(whole.Checkpoint, "\n\n")
	at := len(signature) - 20
	unsigned := words + "\n\n" + signature[:at] + strings.Repeat("A", 8) + signature[at+8:]
	r["checkpoint"] = unsigned
	bytes, _ := json.Marshal(r)
	if _, err := audit.VerifyReceipt(bytes, key); !errors.Is(err, yesline.Tampered) {
		t.Errorf("a receipt without the house's signature: %v", err)
	}
	other := keystest.Open(t, dbtest.SQLite(t))
	if _, err := audit.VerifyReceipt(data, other.Log.VerifierKey()); !errors.Is(err, yesline.Tampered) {
		t.Errorf("a receipt of another house: %v", err)
	}
}

// What lies in the databases shows neither words nor actors.
func TestTheRowsShowNoWords(t *testing.T) {
	t.Parallel()
	h := keystest.Open(t, dbtest.SQLite(t))
	ctx := t.Context()
	program := h.Program(t)
	ann := h.Person(t, program)
	if _, err := h.Log.Append(ctx, audit.Entry{Program: program, Actor: "os:4711", Verb: "xylophone", Object: "o", Result: "allowed", Subjects: []yesline.PersonID{ann}}); err != nil {
		t.Fatal(err)
	}
	for _, q := range []string{`SELECT leaf FROM audit_leaves`, `SELECT sealed FROM audit_parts`} {
		rows, err := h.Content.Query(ctx, q)
		if err != nil {
			t.Fatal(err)
		}
		for rows.Next() {
			var b []byte
			rows.Scan(&b)
			if strings.Contains(string(b), "xylophone") || strings.Contains(string(b), "os:4711") {
				t.Error("a row shows the words of an entry")
			}
		}
		rows.Close()
	}
}

func TestEntriesAreBounded(t *testing.T) {
	t.Parallel()
	h := keystest.Open(t, dbtest.SQLite(t))
	good := audit.Entry{Actor: "svc:test", Verb: "test", Result: "done"}
	for name, spoil := range map[string]func(*audit.Entry){
		"no actor":      func(e *audit.Entry) { e.Actor = "" },
		"long detail":   func(e *audit.Entry) { e.Detail = map[string]string{"a": strings.Repeat("x", 600)} },
		"many subjects": func(e *audit.Entry) { e.Subjects = make([]yesline.PersonID, 17) },
	} {
		e := good
		spoil(&e)
		if _, err := h.Log.Append(t.Context(), e); !errors.Is(err, yesline.Invalid) {
			t.Errorf("%s: got %v", name, err)
		}
	}
}

func benchmarkAppend(b *testing.B, open func(string) *db.DB, writers int) {
	h := keystest.Open(b, open)
	ctx := context.Background()
	program := h.Program(b)
	ann := h.Person(b, program)
	var wg sync.WaitGroup
	next := make(chan struct{}, writers)
	begin := time.Now()
	b.ResetTimer()
	for range writers {
		wg.Go(func() {
			for range next {
				if _, err := h.Log.Append(ctx, heard(program, ann, "trk_x")); err != nil {
					b.Error(err)
				}
			}
		})
	}
	for range b.N {
		next <- struct{}{}
	}
	close(next)
	wg.Wait()
	b.ReportMetric(float64(b.N)/time.Since(begin).Seconds(), "entries/s")
}

func BenchmarkAppendSQLite1(b *testing.B)    { benchmarkAppend(b, dbtest.SQLite(b), 1) }
func BenchmarkAppendSQLite64(b *testing.B)   { benchmarkAppend(b, dbtest.SQLite(b), 64) }
func BenchmarkAppendPostgres1(b *testing.B)  { benchmarkAppend(b, dbtest.Postgres(b), 1) }
func BenchmarkAppendPostgres64(b *testing.B) { benchmarkAppend(b, dbtest.Postgres(b), 64) }
