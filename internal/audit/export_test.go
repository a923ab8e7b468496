package audit

// What only a broken program of ours could write is given to these directly.
var (
	ParseLeaf  = parseLeaf
	SplitWords = splitWords
	Commitment = commitment
)
