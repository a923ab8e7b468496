package consent

// Place permits one-sided recording of the consenting speaker by a third party
// only where a row says so with high certainty. Whoever is anywhere else, or
// nobody knows where, is under the strictest rule: the explicit yes of all.
var oneSidedPlaces = map[string]string{
	"US-HI": "HRS 803-42 (one party)",
	"US-KS": "K.S.A. 21-6101 (one party)",
	"US-ME": "15 M.R.S. 709, 710 (one party)",
	"US-MO": "Mo. Rev. Stat. 542.402 (one party)",
	"US-VT": "no state statute; 18 U.S.C. 2511(2)(d) (one party)",
}

// rule says whether one voice may be kept after the other's no, and why.
func rule(programPermits bool, parties []Party) (oneSided bool, why string) {
	if !programPermits {
		return false, "the program records only when everybody says yes"
	}
	for _, p := range parties {
		if p.Place == "" {
			return false, "we do not know where everybody is, so everybody must say yes"
		}
		if _, ok := oneSidedPlaces[p.Place]; !ok {
			return false, "where somebody is, everybody must say yes (" + p.Place + ")"
		}
	}
	return true, "where both are, and in this program, each decides for their own voice"
}
