package sip_test

import (
	"testing"

	"yesline"
	"yesline/internal/phone"
)

// One phone that calls for help again and again does not take every port: who
// else calls for help is carried.
func TestOnePhoneDoesNotTakeAllEmergencyLines(t *testing.T) {
	t.Parallel()
	w := open(t, setup{})
	w.trunk.Connect("911", w.bobPhone)
	taken := 0
	for range 10 { // the world has 20 ports
		if _, err := w.annPhone.Call(w.ctx, w.door.Address().String(), "911"); err != nil {
			break
		}
		taken++
	}
	if taken != 4 {
		t.Errorf("one phone holds %d calls for help, want 4", taken)
	}
	if _, err := otherPhone(w).Call(w.ctx, w.door.Address().String(), "911"); err != nil {
		t.Errorf("somebody else who calls for help is refused: %v", err)
	}
}

// However many ports ordinary calls want, there are some for who calls for help.
func TestSomePortsAreKeptForHelp(t *testing.T) {
	t.Parallel()
	w := open(t, setup{})
	w.trunk.Connect("911", w.bobPhone)
	for {
		s, err := w.plane.Stream(&counting{})
		if err != nil {
			break
		}
		t.Cleanup(s.Close)
	}
	if _, err := otherPhone(w).Call(w.ctx, w.door.Address().String(), bobNumber); err == nil {
		t.Error("an ordinary call has a port that is kept")
	}
	if _, err := w.annPhone.Call(w.ctx, w.door.Address().String(), "911"); err != nil {
		t.Errorf("a call for help is refused for others' sake: %v", err)
	}
	must(w.bobPhone.Answer(w.ctx))(t)
}

// otherPhone is the phone of somebody else of the program.
func otherPhone(w *world) *phone.Phone {
	w.t.Helper()
	person := must(w.room.People.Meet(w.ctx, w.program, must(yesline.NewPhone("+12025550177"))(w.t)))(w.t)
	_, name, password, err := w.sessions.AddDevice(w.ctx, w.program, person, true)
	ok(w.t, err)
	p := must(phone.New(phone.Config{Listen: "127.0.0.1:0", User: name, Password: string(password.Bytes())}))(w.t)
	w.t.Cleanup(p.Close)
	return p
}
