package attack

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strings"
)

// The control comes last: those with a right do get through. A door that lets
// nobody in proves nothing by keeping strangers out.

const mostEach = 12 // rightful tries at one door

// ending are the words of doors after which something is no more; they are
// tried after all others, in this order.
var ending = []string{"/close", "/refuse", "/revoke", "/rotate", "/withdraw", "/remove", "/end", "DELETE ", "/recovery", "/staff/{staff}", "/sessions/end", "POST /out"}

func lastness(d Door) int {
	last := -1
	for i, word := range ending {
		if strings.Contains(d.String()+" ", word) && d.Method != "GET" {
			last = i
		}
	}
	return last
}

func (a *assault) control(ctx context.Context) {
	a.gather(ctx)
	before := a.prints(ctx)
	touched := map[string]bool{}
	doors := slices.DeleteFunc(slices.Clone(a.doors), func(d Door) bool { return !d.guarded() })
	slices.SortStableFunc(doors, func(x, y Door) int { return lastness(x) - lastness(y) })
	for _, d := range doors {
		if ctx.Err() != nil {
			return
		}
		a.enter(ctx, d, touched)
	}
	if a.narrow {
		return
	}
	for at, body := range a.prints(ctx) {
		parts := strings.Split(at, "|")
		if was, ok := before[at]; ok && was != body && !touched[parts[2]] {
			d, _ := a.door(parts[1])
			who, _ := a.file.named(parts[0])
			a.leak(a.ask("control", d, who, parts[2]), answer{}, "the page changed by acts that others did to other calls")
		}
	}
}

// enter sends somebody with a right through the door.
func (a *assault) enter(ctx context.Context, d Door, touched map[string]bool) {
	tried, last := 0, 0
	late := false       // somebody was let in, but what they asked of is over
	var reader Identity // for whom the key or session lives on
	for _, who := range a.file.Identities {
		for _, id := range some(who.rightful(d), 4) {
			if tried == mostEach {
				break
			}
			tried++
			touched[id] = true
			t := a.ask("control", d, who, id)
			if d.namesInside() != "" {
				t = a.naming("control", d, who, a.own(d, who))
			} else if d.method() != "GET" && (d.Sort == "act" || d.Sort == "say") {
				t.form = a.extras(d, who)
			}
			if strings.HasSuffix(d.Path, "/out") || strings.HasSuffix(d.Path, "/sessions/end") {
				t.who = spareOf(who)
			}
			got, err := a.send(ctx, t)
			if err != nil {
				continue
			}
			last, reader = got.status, t.who
			if late = late || d.Verb == "talk" && got.status == http.StatusConflict; got.status == http.StatusConflict && late {
				continue // perhaps another's call still goes on
			}
			if got.entered(d) {
				a.reach(d)
				return
			}
		}
	}
	if late {
		a.reach(d)
		return
	}
	why := "nobody in the file may go through it"
	if tried > 0 {
		why = fmt.Sprintf("%d tries with a right to it failed; the last, as %s, was answered %d", tried, reader.Name, last)
	}
	a.miss(d.String(), why)
}

func spareOf(who Identity) Identity {
	if who.Spare != "" {
		who.Cookie, who.Key = who.Spare, ""
	}
	return who
}

// entered reports whether the door let them in, even if what they brought
// could not be used.
func (g answer) entered(d Door) bool {
	if slices.Contains(d.Form, "credential") && g.status < 500 && g.status != http.StatusUnauthorized && g.status != http.StatusForbidden {
		return true // we have no passkey to show
	}
	return !g.refused() && g.status < 500
}
