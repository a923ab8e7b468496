package tolls_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/nyaruka/phonenumbers"

	"yesline"
	"yesline/internal/capture/tolls"
	"yesline/internal/db/dbtest"
)

// everywhere permits all countries that there are.
func everywhere() tolls.Rules {
	rules := generous()
	rules.International = nil
	for region := range phonenumbers.GetSupportedRegions() {
		rules.International = append(rules.International, region)
	}
	return rules
}

// Which numbers are called from America, where Canada and Britain are listed.
func TestWhichNumbersAreCalled(t *testing.T) {
	t.Parallel()
	w := enter(t, dbtest.SQLite(t)("content"), generous())
	for _, c := range []struct{ number, region, word string }{
		{"+12025550142", "US", ""},
		{"+18165550100", "US", ""},
		{"+14165550123", "CA", ""},
		{"+442079460123", "GB", ""},
		{"+447400123456", "GB", ""},
		{"+445612345678", "GB", ""},          // over the internet
		{"+443001234567", "GB", ""},          // billed like any other
		{"+18002345678", "US", ""},           // free
		{"+18884111234", "US", ""},           // free, though 411 is no exchange elsewhere
		{"+448001234567", "GB", "freephone"}, // free over there

		{"+19005550142", "US", "premium"},
		{"+12129761234", "US", "premium"},
		{"+18169761234", "US", "premium"},
		{"+12125551212", "US", "premium"},
		{"+449012345678", "GB", "premium"},
		{"+448712345678", "GB", "premium"},
		{"+97912345678", "", "premium"},
		{"+97900000001", "", "premium"},
		{"+491801234567", "DE", "shared"},
		{"+80812345678", "", "shared"},
		{"+447012345678", "GB", "personal"},
		{"+15005550142", "US", "personal"},
		{"+15335550142", "US", "personal"},
		{"+878101234567890", "", "personal"},
		{"+447640123456", "GB", "special"},   // a pager
		{"+49177991234567", "DE", "special"}, // voicemail
		{"+445512345678", "GB", "special"},
		{"+80012345678", "", "freephone"},
		{"+881612345678", "", "satellite"},
		{"+881712345678", "", "satellite"},
		{"+88213512345", "", "satellite"},
		{"+883510012345", "", "satellite"},
		{"+88312345678901", "", "satellite"},
		{"+870773111632", "", "satellite"},
		{"+16005550142", "CA", "satellite"},

		{"+49116117", "DE", "short"},
		{"+35319991", "IE", "unknown"}, // not in Ireland's plan, short or long
		{"+12029111234", "US", "unknown"},
		{"+12024111234", "US", "unknown"},
		{"+15551234567", "", "unknown"},
		{"+14115550000", "", "unknown"},
		{"+12345678", "", "unknown"},
		{"+120255501421", "", "unknown"},
		{"+4402079460123", "", "unknown"}, // a trunk zero too many: what is dialled is not what was looked at
		{"+5215512345678", "MX", "unknown"},
		{"+21012345678", "", "unknown"},
		{"+9999999999", "", "unknown"},
		{"+999999999999999", "", "unknown"},

		// Countries of their own behind +1, and others that share a code.
		{"+18765550142", "JM", "country"},
		{"+16585550142", "JM", "country"},
		{"+18095550142", "DO", "country"},
		{"+18295550142", "DO", "country"},
		{"+12423456789", "BS", "country"},
		{"+12464123456", "BB", "country"},
		{"+12684641234", "AG", "country"},
		{"+12842291234", "VG", "country"},
		{"+14732691234", "GD", "country"},
		{"+16497121234", "TC", "country"},
		{"+16644912345", "MS", "country"},
		{"+17215425678", "SX", "country"},
		{"+17674201234", "DM", "country"},
		{"+18682211234", "TT", "country"},
		{"+17875550142", "PR", "country"},
		{"+13405550142", "VI", "country"},
		{"+16715550142", "GU", "country"},
		{"+447911123456", "GG", "country"}, // hidden among British mobiles
		{"+447624123456", "IM", "country"},
		{"+441481256789", "GG", "country"},
		{"+441534456789", "JE", "country"},
		{"+79123456789", "RU", "country"},
		{"+77710009998", "KZ", "country"},
		{"+78401234567", "GE", "country"}, // Abkhazia
		{"+79401234567", "GE", "country"},
		{"+390669812345", "VA", "country"},
		{"+4779123456", "SJ", "country"},
		{"+2463709100", "IO", "country"},
		{"+24740123", "AC", "country"},
		{"+37060112345", "LT", "country"},
		{"+5312345678", "CU", "unknown"},
		{"+5371234567", "CU", "country"},
		{"+919876543210", "IN", "country"},
	} {
		about, err := w.Look(t.Context(), by(ann), phone(t, c.number))
		if got := wordOf(err); got != c.word || err != nil && got == "" {
			t.Errorf("%s: got %q (%v), want %q", c.number, got, err, c.word)
		}
		r := (*tolls.Refusal)(nil)
		if errors.As(err, &r) {
			if about.Region = r.Region; r.Says == "" || strings.Contains(r.Says, "%") || !errors.Is(err, yesline.Denied) && !errors.Is(err, yesline.Invalid) {
				t.Errorf("%s: says %q, and is %v", c.number, r.Says, r.Kind)
			}
			if strings.Contains(r.Says+err.Error(), c.number[3:]) {
				t.Errorf("%s: it repeats the number", c.number)
			}
		}
		if about.Region != c.region {
			t.Errorf("%s: got %q, want %q", c.number, about.Region, c.region)
		}
		call, err := w.Place(t.Context(), by(ann), phone(t, c.number))
		if got := wordOf(err); got != c.word || (call == nil) != (err != nil) {
			t.Errorf("%s: placed with %v, want %q", c.number, err, c.word)
		}
	}
}

// The same numbers from elsewhere.
func TestWhoseNumbersAreCalled(t *testing.T) {
	t.Parallel()
	rules := generous()
	rules.International = []string{"CA", "GB", "IM"}
	rules.Never = []string{"+4420794", "+1900"}
	w := enter(t, dbtest.SQLite(t)("content"), rules)
	for _, c := range []struct {
		program      yesline.ProgramID
		number, word string
	}{
		{british, "+442071838750", ""},
		{british, "+448001234567", ""}, // free, at home
		{british, "+447624123456", ""},
		{british, "+12025550142", "country"},
		{british, "+18002345678", "freephone"},
		{british, "+14165550123", ""},
		{british, "+442079460123", "never"},
		{british, "+447012345678", "personal"},
		{american, "+19005550142", "never"},
		{narrow, "+14165550123", ""},
		{narrow, "+442071838750", "country"}, // its own terms list Canada and Jamaica
		{narrow, "+18765550142", "country"},  // and the house does not list Jamaica
		{narrow, "+12025550142", ""},
		{narrow, "+18002345678", ""},
	} {
		who := by(ann)
		who.Program = c.program
		if _, err := w.Look(t.Context(), who, phone(t, c.number)); wordOf(err) != c.word || err != nil && wordOf(err) == "" {
			t.Errorf("%s from %s: got %v, want %q", c.number, c.program, err, c.word)
		}
	}
}

// Premium numbers only where they were permitted, at home, at their price.
func TestPremiumNumbers(t *testing.T) {
	t.Parallel()
	rules := generous()
	rules.Premium = true
	open := dbtest.SQLite(t)
	w := enter(t, open("content"), rules)
	look := func(number string) (tolls.About, string) {
		t.Helper()
		about, err := w.Look(t.Context(), by(ann), phone(t, number))
		return about, wordOf(err)
	}
	if _, word := look("+19005550142"); word != "price" {
		t.Errorf("without a price: got %q", word)
	}
	w.Close()
	w.rules.PerMinute["premium"] = 2 * dollar
	w.open()
	if about, word := look("+19005550142"); word != "" || about.Micros != 2*dollar || about.Region != "US" {
		t.Errorf("got %+v and %q", about, word)
	}
	if about, word := look("+442071838750"); word != "" || about.Micros != 2*cent || about.Country != "United Kingdom" {
		t.Errorf("got %+v and %q", about, word)
	}
	if about, word := look(domestic); word != "" || about.Micros != cent {
		t.Errorf("got %+v and %q", about, word)
	}
	for number, word := range map[string]string{"+449012345678": "premium", "+97912345678": "premium", "+15005550142": "personal", "+881612345678": "satellite"} {
		if _, got := look(number); got != word {
			t.Errorf("%s: got %q, want %q", number, got, word)
		}
	}
	w.Close()
	delete(w.rules.PerMinute, "")
	w.open()
	if _, word := look(domestic); word != "price" {
		t.Errorf("without a price: got %q", word)
	}
}

// Every country's own examples, of each kind: those to talk to are called when
// the country is listed, and only then; the others never.
func TestTheExamplesOfEveryCountry(t *testing.T) {
	t.Parallel()
	open := dbtest.SQLite(t)
	all := enter(t, open("content"), everywhere())
	home := generous()
	home.International = nil
	none := enter(t, open("content"), home)
	abroad := by(ann)
	seen := 0
	for region := range phonenumbers.GetSupportedRegions() {
		if tolls.Country(region) == region {
			t.Errorf("%s has no name", region)
		}
		for sort := phonenumbers.FIXED_LINE; sort <= phonenumbers.VOICEMAIL; sort++ {
			n := phonenumbers.GetExampleNumberForType(region, sort)
			if n == nil || !phonenumbers.IsValidNumber(n) {
				continue
			}
			number, err := yesline.NewPhone(phonenumbers.Format(n, phonenumbers.E164))
			if err != nil {
				continue // too short to be dialled by us
			}
			seen++
			is := phonenumbers.GetNumberType(n)
			if strings.HasPrefix(number.Digits(), "+1600") {
				continue // the library takes these satellites for the internet
			}
			talk := is == phonenumbers.FIXED_LINE || is == phonenumbers.MOBILE || is == phonenumbers.FIXED_LINE_OR_MOBILE || is == phonenumbers.VOIP
			free := is == phonenumbers.TOLL_FREE && n.GetCountryCode() == 1
			about, err := all.Look(t.Context(), abroad, number)
			if talk && (err != nil || about.Region != phonenumbers.GetRegionCodeForNumber(n)) {
				t.Errorf("%s, kind %d, is not called: %+v, %v", region, sort, about, err)
			}
			if !talk && !free && err == nil && !strings.HasPrefix(number.Digits(), "+443") {
				t.Errorf("%s, kind %d, is called", region, sort)
			}
			_, err = none.Look(t.Context(), abroad, number)
			if about.Region != "US" && !free && err == nil {
				t.Errorf("%s, kind %d, is called although it is not listed", region, sort)
			}
		}
	}
	if seen < 1000 {
		t.Errorf("only %d examples were found", seen)
	}
	for code := range phonenumbers.GetSupportedGlobalNetworkCallingCodes() {
		n := phonenumbers.GetExampleNumberForNonGeoEntity(code)
		if n == nil {
			t.Errorf("+%d has no example", code)
			continue
		}
		number := phone(t, phonenumbers.Format(n, phonenumbers.E164))
		if _, err := all.Look(t.Context(), abroad, number); wordOf(err) == "" {
			t.Errorf("+%d, of no country, is called", code)
		}
	}
}

func TestCountries(t *testing.T) {
	t.Parallel()
	for region, want := range map[string]string{"GB": "United Kingdom", "AC": "Ascension Island", "ZW": "Zimbabwe", "": "", "XX": "XX", "gb": "gb", "G": "G", "A ": "A ", "\nG": "\nG", "United": "United"} {
		if got := tolls.Country(region); got != want {
			t.Errorf("%q: got %q, want %q", region, got, want)
		}
	}
}

// Whatever is dialled, nothing is called that is not in a listed country, costs
// extra or is written otherwise than it is dialled, and nothing is repeated.
func FuzzPlace(f *testing.F) {
	for _, s := range []string{"+12025550142", "+4402079460123", "+881612345678", "+19005550142", "+78401234567", "+97912345678", "+390669812345"} {
		f.Add(s)
	}
	rules := generous()
	rules.PerMinute[""] = 0 // the books have tests of their own
	rules.PerMinute["GB"] = 0
	content := dbtest.SQLite(f)("content")
	house, err := tolls.Open(f.Context(), tolls.Parts{Content: content, Program: programs}, rules)
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(house.Close)
	f.Fuzz(func(t *testing.T, dialled string) {
		number, err := yesline.NewPhone(dialled)
		if err != nil {
			return
		}
		about, err := house.Look(t.Context(), by(ann), number)
		if r := (*tolls.Refusal)(nil); errors.As(err, &r) {
			if r.Word == "" || r.Says == "" || strings.Contains(r.Says+r.Error()+r.Region, dialled[1:]) {
				t.Errorf("refused by %q, says %q", r.Word, r.Says)
			}
			return
		}
		if err != nil {
			t.Fatal(err)
		}
		if about.Region != "US" && about.Region != "CA" && about.Region != "GB" {
			t.Errorf("a number in %s is called", about.Region)
		}
		n, err := phonenumbers.Parse(dialled, "")
		if err != nil || !phonenumbers.IsValidNumber(n) || phonenumbers.Format(n, phonenumbers.E164) != dialled {
			t.Error("what is called is not a whole number")
		}
		switch phonenumbers.GetNumberType(n) {
		case phonenumbers.PREMIUM_RATE, phonenumbers.SHARED_COST, phonenumbers.PERSONAL_NUMBER, phonenumbers.PAGER, phonenumbers.VOICEMAIL, phonenumbers.UNKNOWN:
			t.Error("a number that costs extra is called")
		}
	})
}
