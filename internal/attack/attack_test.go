package attack

import (
	"bytes"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"yesline"
)

func attacked(t *testing.T, leak, part string) Report {
	t.Helper()
	_, c := newModel(t, leak)
	c.part = part
	doors, err := readDoors([]byte(modelDoors))
	if err != nil {
		t.Fatal(err)
	}
	r, err := run(t.Context(), c, doors)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// A tight house is found tight, and every door of it is reached.
func TestATightHouse(t *testing.T) {
	t.Parallel()
	r := attacked(t, "", "")
	var out bytes.Buffer
	r.Write(&out)
	if len(r.Leaks) > 0 || len(r.Missed) > 0 || r.Reached != r.Doors || r.Tries < 1000 {
		t.Errorf("%s", &out)
	}
}

// Each leak is caught by the family that is there for it.
func TestEachLeakIsCaught(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ family, leak string }{
		{"doors", "any signed-in user acts"},
		{"doors", "anybody sees the house"},
		{"doors", "strangers talk"},
		{"doors", "a refusal with its reason"},
		{"unchanged", "a refusal that speaks"},
		{"inside", "a form that ends another's"}, {"inside", "a form that knows another's"}, {"inside", "a refusal that ends"},
		{"numbers", "a look that knows who is here"},
		{"look", "a field too many for a script"},
		{"doors", "forbidden differs in words"},
		{"doors", "forbidden differs in a header"},
		{"doors", "the socket's doors"},
		{"doors", "a door that is not in the table"},
		{"unchanged", "a refusal that acts"},
		{"identities", "an ended session"},
		{"identities", "letters alike"},
		{"identities", "a cut secret"},
		{"identities", "a proxy's word"},
		{"identities", "a secret in the address"},
		{"identities", "a session at the API"},
		{"guessing", "guessing without end"},
		{"tickets", "sound without a ticket"},
		{"tickets", "tickets without a signature"},
		{"tickets", "tickets for any voice"},
		{"tickets", "tickets for any session"},
		{"tickets", "tickets for a day"},
		{"tickets", "addresses for any client"},
		{"recall", "sharing does not stop"},
		{"recall", "an address outlives sharing"},
		{"recall", "signing out ends nothing"},
		{"paths", "another spelling"},
		{"paths", "an address in a header"},
		{"bodies", "any verb"},
		{"bodies", "fields that nobody asked for"},
		{"bodies", "text as a document"},
		{"bodies", "it breaks"},
		{"control", "a form that names another"},
		{"crossing", "other sites may act"},
		{"crossing", "any host"},
		{"timing", "forbidden takes longer"},
		{"doors", "a header too few"},
		{"doors", "other sites may read"},
		{"doors", "an echo"},
		{"secrets", "secrets in the log"},
		{"secrets", "numbers in the log"},
		{"look", "an id of somebody else"},
		{"look", "an id of somebody whom nobody knows"},
		{"look", "a field too many"},
		{"faults", "permanent public links"},
		{"faults", "any signed-in user reads all"},
		{"faults", "answers with hidden fields"},
		{"faults", "nobody can say who read"},
	} {
		t.Run(c.leak, func(t *testing.T) {
			t.Parallel()
			part := c.family
			if c.family == "unchanged" || c.family == "look" || c.family == "secrets" {
				part = "" // they see what others did
			}
			r := attacked(t, c.leak, part)
			if !slices.ContainsFunc(r.Leaks, func(l Leak) bool { return l.Family == c.family }) {
				var out bytes.Buffer
				r.Write(&out)
				t.Errorf("%s did not catch it:\n%s", c.family, &out)
			}
		})
	}
}

// What the attack prints may be published: secrets stand in it by name only.
func TestTheReportHoldsNoSecret(t *testing.T) {
	t.Parallel()
	m, c := newModel(t, "any signed-in user reads all")
	doors, err := readDoors([]byte(modelDoors))
	if err != nil {
		t.Fatal(err)
	}
	r, err := run(t.Context(), c, doors)
	if err != nil || len(r.Leaks) == 0 {
		t.Fatalf("%d leaks, %v", len(r.Leaks), err)
	}
	var out bytes.Buffer
	if err := r.Write(&out); err != nil {
		t.Fatal(err)
	}
	for _, i := range m.file.Identities {
		for _, secret := range []string{i.Cookie, i.Spare, i.Key, i.Number} {
			if secret != "" && strings.Contains(out.String(), secret) {
				t.Errorf("the report holds a secret of %s", i.Name)
			}
		}
	}
	if !strings.Contains(out.String(), `-b "yesline=$COOKIE_`) {
		t.Errorf("no way to repeat it:\n%s", &out)
	}
}

func TestOnlySomeDoors(t *testing.T) {
	t.Parallel()
	_, c := newModel(t, "")
	doors, err := readDoors([]byte(modelDoors))
	if err != nil {
		t.Fatal(err)
	}
	c.Only = []string{"GET /tracks/{track}/audio", "GET /house*"}
	began := time.Now()
	r, err := run(t.Context(), c, doors)
	if err != nil || r.Doors != 2 || r.Reached != 2 || len(r.Leaks) > 0 {
		t.Errorf("%+v %v", r, err)
	}
	if took := time.Since(began); took > 20*time.Second {
		t.Errorf("two doors took %v", took)
	}
	c.Only = []string{"GET /nowhere"}
	if _, err := run(t.Context(), c, doors); !errors.Is(err, yesline.Invalid) {
		t.Errorf("a door that is not there: %v", err)
	}
}

func TestWhatIsNotMarkedIsNotAttacked(t *testing.T) {
	t.Parallel()
	_, c := newModel(t, "")
	c.Identities = bytes.Replace(c.Identities, []byte(`"canary":true`), []byte(`"canary":false`), 1)
	if _, err := Run(t.Context(), c); !errors.Is(err, yesline.Denied) {
		t.Errorf("got %v", err)
	}
	for name, data := range map[string]string{"no JSON": "x", "a field too many": `{"canary":true,"x":1}`, "nobody": `{"version":1,"canary":true}`,
		"no way in": `{"version":1,"canary":true,"identities":[{"name":"a"}]}`} {
		if _, err := ReadFile([]byte(data)); !errors.Is(err, yesline.Invalid) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// A door through which nobody got is told, whatever else was found.
func TestADoorThatNobodyMayPass(t *testing.T) {
	t.Parallel()
	_, c := newModel(t, "")
	doors, err := readDoors([]byte(strings.Replace(modelDoors, `"path":"/house","sort":"page","verb":"verify"`, `"path":"/house","sort":"page","verb":"appoint"`, 1)))
	if err != nil {
		t.Fatal(err)
	}
	c.Only = []string{"GET /house"}
	r, err := run(t.Context(), c, doors)
	if err != nil || len(r.Missed) != 1 || r.Missed[0].What != "GET /house" {
		t.Errorf("%+v %v", r.Missed, err)
	}
}

func TestTheCommittedDoors(t *testing.T) {
	t.Parallel()
	doors, err := Doors()
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range doors.Doors {
		if d.guarded() && (d.Verb == "" || prefixes[d.Kind] == nil) {
			t.Errorf("%s: the enemy does not know the kind %q", d, d.Kind)
		}
	}
}

func TestNumbersAreFoundHoweverTheyAreWritten(t *testing.T) {
	t.Parallel()
	n := (&File{Secrets: []Secret{{What: "a number", Value: "+12025550101"}}}).needles()[0]
	for text, want := range map[string]bool{"+12025550101": true, "2025550101": true, "(202) 555-0101": true, "202.555.0101": true, "tel:+1-202-555-0101": true,
		"20255501010": true, "202 555 01": false, "2025550102": false, "202 x 5550101": false} {
		if got := n.in([]byte(text), digitRuns([]byte(text))); got != want {
			t.Errorf("%q: got %v, want %v", text, got, want)
		}
	}
}

func TestRanks(t *testing.T) {
	t.Parallel()
	var slow, quick, like []time.Duration
	for i := range 60 {
		quick = append(quick, time.Duration(1000+i%7))
		like = append(like, time.Duration(1000+(i+3)%7))
		slow = append(slow, time.Duration(1003+i%7))
	}
	if z := mannWhitney(slow, quick); z < surely {
		t.Errorf("slower by half its spread: %.1f", z)
	}
	if z := mannWhitney(quick, like); z > 1 || z < -1 {
		t.Errorf("alike: %.1f", z)
	}
}
