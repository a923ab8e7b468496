package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// inPolicies drops each condition of each policy, and each forbid whole. The
// gate reads its policies from a text in the binary: the planted copy of that
// file hands it the changed text instead.
func inPolicies(root string) ([]*mutant, error) {
	data, err := os.ReadFile(filepath.Join(root, "internal/access/policies.cedar"))
	if err != nil {
		return nil, err
	}
	text := string(data)
	var all []*mutant
	add := func(what, changed string) {
		all = append(all, &mutant{name: "policies.cedar " + what, room: "internal/access", edits: []edit{
			after("internal/access/rules.go", root, "func readRules(policyText, schemaText []byte) (*rules, error) {",
				"\n\tif mutantOn(\x00) {\n\t\tpolicyText = []byte("+strconv.Quote(changed)+")\n\t}"),
		}})
	}
	number := 0
	for from := 0; from < len(text); {
		end := strings.Index(text[from:], ";")
		if end < 0 {
			break
		}
		end += from + 1
		policy := text[from:end]
		number++
		head := headOf(policy)
		if strings.HasPrefix(head, "forbid") {
			add(fmt.Sprintf("%d %s: gone", number, head), text[:from]+text[end:])
		}
		for _, block := range []string{"when {", "unless {"} {
			open := strings.Index(policy, block)
			if open < 0 {
				continue
			}
			open += len(block)
			shut := strings.LastIndex(policy, "}")
			parts := strings.Split(policy[open:shut], "&&")
			for i, part := range parts {
				var rest []string
				rest = append(append(rest, parts[:i]...), parts[i+1:]...)
				body := strings.Join(rest, "&&")
				if strings.TrimSpace(body) == "" {
					if block == "unless {" {
						continue // the same as the forbid gone
					}
					body = " true "
				}
				add(fmt.Sprintf("%d %s: without `%s`", number, head, strings.Join(strings.Fields(part), " ")), text[:from]+policy[:open]+body+policy[shut:]+text[end:])
			}
		}
		from = end
	}
	return all, nil
}

// headOf is a policy's effect and scope in one line, without comments.
func headOf(policy string) string {
	var words []string
	for line := range strings.Lines(policy) {
		if line, _, _ = strings.Cut(line, "//"); strings.TrimSpace(line) != "" {
			words = append(words, strings.Fields(line)...)
		}
	}
	head, _, _ := strings.Cut(strings.Join(words, " "), ")")
	return head + ")"
}

// after puts text behind an anchor that stands in a file once.
func after(file, root, anchor, text string) edit {
	return instead(file, root, anchor, func(old string) string { return old + text })
}

// instead changes an anchor that stands in a file once. An anchor that moved is
// a mistake to mend here, and not a mutant less.
func instead(file, root, anchor string, change func(old string) string) edit {
	data, err := os.ReadFile(filepath.Join(root, file))
	if err != nil || strings.Count(string(data), anchor) != 1 {
		panic(fmt.Sprintf("%s holds %q %d times (%v): mend scripts/mutants", file, anchor, strings.Count(string(data), anchor), err))
	}
	from := strings.Index(string(data), anchor)
	return edit{file, from, from + len(anchor), change}
}
