package tolls

import (
	_ "embed"
	"slices"
	"strings"

	"github.com/nyaruka/phonenumbers"

	"yesline"
)

// What numbers are refused for, besides money and limits.
const (
	unknown   = "unknown"   // of no numbering plan, or not written in full
	short     = "short"     // a short number behind a country code
	premium   = "premium"   // who is called is paid for it
	shared    = "shared"    // the same, in part
	satellite = "satellite" // also networks that are in no country
	personal  = "personal"  // numbers that follow a person: a known trap
	special   = "special"   // pagers, voicemail, company-wide numbers
	freephone = "freephone" // of another country
	country   = "country"   // not on the list
	never     = "never"     // on the operator's own list
	noPrice   = "price"     // what it costs has not been set
)

// number is what the numbering plans know of a telephone number.
type number struct {
	region string // ISO 3166; "" where there is none
	code   int32  // of the country: 1 is shared by 25 of them
	word   string // why it is not to be called without more ado; "" when it is
}

// look reads a number. What no plan knows is not called: a new range is rarely
// missed for long, and an invented one leads to whoever claims it.
func look(to yesline.Phone) number {
	digits := to.Digits()
	n, err := phonenumbers.Parse(digits, "")
	if err != nil || phonenumbers.Format(n, phonenumbers.E164) != digits {
		return number{word: unknown} // what is dialled must be what was looked at
	}
	its := number{code: n.GetCountryCode(), region: phonenumbers.GetRegionCodeForNumber(n)}
	if its.region == nowhere || phonenumbers.GetSupportedGlobalNetworkCallingCodes()[int(its.code)] {
		its.region, its.word = "", networks[its.code]
		if its.word == "" {
			its.word = satellite
		}
		return its
	}
	sort := phonenumbers.GetNumberType(n)
	if word := its.missing(digits); word != "" && sort != phonenumbers.TOLL_FREE {
		its.word = word
		return its
	}
	switch sort {
	case phonenumbers.FIXED_LINE, phonenumbers.MOBILE, phonenumbers.FIXED_LINE_OR_MOBILE, phonenumbers.VOIP:
	case phonenumbers.TOLL_FREE:
		its.word = freephone
	case phonenumbers.PREMIUM_RATE:
		its.word = premium
	case phonenumbers.SHARED_COST:
		its.word = shared
	case phonenumbers.PERSONAL_NUMBER:
		its.word = personal
	case phonenumbers.UAN:
		if its.word = special; strings.HasPrefix(digits, "+443") {
			its.word = "" // billed like any number of the country, by law
		}
	case phonenumbers.PAGER, phonenumbers.VOICEMAIL:
		its.word = special
	default:
		if its.word = unknown; isShort(n) {
			its.word = short
		}
	}
	return its
}

// nowhere is the library's region of codes that belong to no country.
const nowhere = "001"

// networks are the country codes of no country. What is not here is refused
// like a satellite's.
var networks = map[int32]string{800: freephone, 808: shared, 870: satellite, 878: personal, 881: satellite, 882: satellite, 883: satellite, 888: special, 979: premium}

// missing is what the library does not know, or knows otherwise than a bill.
func (n *number) missing(digits string) string {
	switch n.code {
	case 1:
		if len(digits) != len("+12025550100") {
			return ""
		}
		area, exchange, line := digits[2:5], digits[5:8], digits[8:]
		switch {
		case area == "600":
			return satellite // Canada's numbers for satellites and far places
		case exchange == "976":
			return premium // in every area
		case exchange == "555" && line == "1212":
			return premium // directory assistance
		case exchange[1:] == "11":
			return unknown // 911 and its kind are no exchanges
		}
	case 7:
		if strings.HasPrefix(digits, "+7840") || strings.HasPrefix(digits, "+7940") {
			n.region = "GE" // Abkhazia, which the library counts to Russia
		}
	}
	return ""
}

// america reports whether a country shares +1, and with it the free numbers.
func america(region string) bool { return phonenumbers.GetCountryCodeForRegion(region) == 1 }

// isShort reports whether a number would be a short one inside its country.
func isShort(n *phonenumbers.PhoneNumber) bool {
	return slices.ContainsFunc(phonenumbers.GetRegionCodesForCountryCode(int(n.GetCountryCode())), func(region string) bool {
		return phonenumbers.IsValidShortNumberForRegion(n, region)
	})
}

//go:embed countries.txt
var countries string

// Country is the English name of a region ("GB": "United Kingdom"), or the code
// itself when there is no such region.
func Country(region string) string {
	if name, ok := named(region); ok {
		return name
	}
	return region
}

func named(region string) (string, bool) {
	if len(region) != 2 || strings.Trim(region, "ABCDEFGHIJKLMNOPQRSTUVWXYZ") != "" {
		return "", false
	}
	_, rest, found := strings.Cut("\n"+countries, "\n"+region+" ")
	name, _, _ := strings.Cut(rest, "\n")
	return name, found
}
