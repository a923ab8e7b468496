package consent

import (
	"context"

	"yesline"
	"yesline/internal/program"
)

// Foresee says in a sentence who will be asked in a call of a program, and what
// a no does, before it is placed: while nobody knows yet where the other is,
// the strictest rule is the one to expect.
func (c *Consent) Foresee(ctx context.Context, id yesline.ProgramID) (string, error) {
	terms, err := c.programs.Terms(ctx, id)
	if err != nil {
		return "", err
	}
	when := "Both of you are asked before you hear each other"
	if terms.Ask == program.AskDuring {
		when = "You hear each other at once and nothing is recorded; both of you are asked when one of you wants to record"
	}
	if terms.OneSided {
		return when + ". After one no, the other voice is kept only where both places allow it.", nil
	}
	return when + ". One no, and nothing of anybody is recorded.", nil
}
