package main

// byHand are faults that no pattern finds: answers that hold more than they
// may, and answers before their entry is durable.
func byHand(root string) ([]*mutant, error) {
	var all []*mutant
	// wider puts more into one field of an answer; the attack is to see it.
	wider := func(door, file, anchor, more string) {
		all = append(all, &mutant{name: "field of " + door + ": also tells " + more, doors: door, edits: []edit{
			instead(file, root, anchor, func(old string) string {
				return "mutantText(\x00, " + more + ", " + old + ")"
			})}})
	}
	const call, record, api, account = "internal/web/call.go", "internal/web/record.go", "internal/web/api_calls.go", "internal/web/api_account.go"
	wider("GET /calls", call, "masks[other]", "string(other)")
	wider("GET /calls/{call}", call, "masks[p]", "string(p)")
	wider("GET /calls/{call}/log", record, "masks[otherThan(c.Parties, me)]", "string(otherThan(c.Parties, me))")
	wider("GET /api/v1/calls", api, "masks[other]", "string(other)")
	wider("GET /api/v1/calls/{call}", api, "masks[p]", "string(p)")
	wider("GET /calls/{call}/log", record, `"somebody"`, "name")
	wider("GET /me", "internal/web/self.go", "masks[me]", `string(me) + a.Who.String() + string(a.Who.Session())`)
	wider("GET /api/v1/me", account, "masks[me]", `masks[me] + string(yesline.NewPersonID())`)

	// before is an answer whose entry was never written; a room's test is to
	// miss the entry.
	before := func(what, room, file, anchor string, change func(string) string) {
		all = append(all, &mutant{name: "entry before the answer: " + what, room: room, edits: []edit{instead(file, root, anchor, change)}})
	}
	behind := func(text string) func(string) string { return func(old string) string { return old + text } }
	before("a yes of the gate is not written", "internal/access", "internal/access/access.go", "ref, err := g.write(ctx, d.allowed()...)", func(old string) string {
		return "var ref audit.Ref\n\tif !mutantOn(\x00) {\n\t\tref, err = g.write(ctx, d.allowed()...)\n\t}"
	})
	before("a no of the gate is not written", "internal/access", "internal/access/access.go", "if g.denials.add(time.Now(), d.who, d.verb) {", func(string) string {
		return "if g.denials.add(time.Now(), d.who, d.verb) && !mutantOn(\x00) {"
	})
	before("what happens to a case is not written", "internal/access", "internal/access/cases.go", "if _, err := c.record(ctx, tx, e); err != nil {", func(string) string {
		return "if mutantOn(\x00) {\n\t\treturn nil\n\t}\n\tif _, err := c.record(ctx, tx, e); err != nil {"
	})
	before("the log answers and writes nothing", "internal/audit", "internal/audit/log.go", "func (l *Log) write(ctx context.Context, tx *db.Tx, rows []*row) error {",
		behind("\n\tif mutantOn(\x00) {\n\t\treturn nil\n\t}"))
	before("the log answers although writing failed", "internal/audit", "internal/audit/log.go", `err = fmt.Errorf("writing the log: %w", err)`,
		behind("\n\t\tif mutantOn(\x00) {\n\t\t\terr = nil\n\t\t}"))
	before("ways into an account are not told", "internal/session", "internal/session/session.go", "func (s *Sessions) tell(ctx context.Context, tx *db.Tx, e audit.Entry) error {",
		behind("\n\tif mutantOn(\x00) {\n\t\treturn nil\n\t}"))
	return all, nil
}
