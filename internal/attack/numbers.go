package attack

import (
	"context"
	"encoding/json"
	"slices"
)

// Whoever may ask what a number is learns nothing of whose it is: a number of
// somebody in the house is answered as one that nobody has, but for how it is
// written.

const numbersEach = 4 // numbers that one identity asks about

func (a *assault) askNumbers(ctx context.Context) {
	for _, d := range a.doors {
		if d.Verb != "dial" || !d.forScript() || !slices.Contains(d.Form, "number") {
			continue
		}
		for _, who := range a.file.Identities {
			if len(who.rightful(d)) > 0 {
				a.askNumbersAs(ctx, d, who)
			}
		}
	}
}

func (a *assault) askNumbersAs(ctx context.Context, d Door, who Identity) {
	t := a.ask("numbers", d, who, "")
	nobodys, err := a.send(ctx, t)
	if err != nil || nobodys.denied() {
		return
	}
	for _, number := range some(a.numbersBut(who), numbersEach) {
		t := a.ask("numbers", d, who, "")
		t.form.Set("number", number)
		got, err := a.send(ctx, t)
		if err == nil && got.status < 500 && !got.denied() && (got.status != nobodys.status || written(got.body) != written(nobodys.body)) {
			a.leak(t, got, "it tells a number that is somebody's here from one that is nobody's")
		}
	}
}

// numbersBut are the numbers of others in the story.
func (a *assault) numbersBut(who Identity) (all []string) {
	for _, n := range a.numbers {
		if n.digits != "" && n.text != who.Number {
			all = append(all, n.text)
		}
	}
	return all
}

// written is an answer without the number that was asked about.
func written(body []byte) string {
	var doc map[string]any
	if json.Unmarshal(body, &doc) != nil {
		return string(body)
	}
	delete(doc, "shown")
	out, err := json.Marshal(doc) // sorts the names
	if err != nil {
		return string(body)
	}
	return string(out)
}
