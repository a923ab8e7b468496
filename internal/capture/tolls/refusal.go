package tolls

import (
	"fmt"

	"yesline"
)

// The words of limits and money.
const (
	busy     = "busy"     // the account has all its calls
	full     = "full"     // the trunk has
	tooFast  = "rate"     // the account places too many in a minute
	crowd    = "crowd"    // the trunk does
	budget   = "budget"   // the account's money of the day
	program  = "program"  // the program's
	trunk    = "trunk"    // the trunk's
	ahead    = "clock"    // money is written down for a day that is yet to come
	callerID = "callerid" // it is not a number of theirs, nor of ours
)

// Refusal is why a call is not placed. It never holds the number.
type Refusal struct {
	Kind   error  // yesline.Denied, yesline.Invalid, or yesline.TooMany: later may work
	Word   string // for operators and tests
	Region string // where the number is, if that is known
	Says   string // one sentence for the person who calls
}

// Error names the word alone.
func (r *Refusal) Error() string { return "placing a call: " + r.Word }

// Unwrap gives the kind.
func (r *Refusal) Unwrap() error { return r.Kind }

// sentences are what people are told. %s is the name of a country.
var sentences = map[string]struct {
	kind error
	says string
}{
	unknown:   {yesline.Invalid, "That is not a number that is in use, as far as we know. Please check the digits."},
	short:     {yesline.Denied, "Short numbers cannot be called from here."},
	premium:   {yesline.Denied, "Numbers that charge extra cannot be called from here."},
	shared:    {yesline.Denied, "Numbers that charge extra cannot be called from here."},
	satellite: {yesline.Denied, "Satellite phones and networks of no country cannot be called from here."},
	personal:  {yesline.Denied, "Numbers that follow a person cannot be called from here: they often charge extra."},
	special:   {yesline.Denied, "Pagers, voicemail and special numbers cannot be called from here."},
	freephone: {yesline.Denied, "Free numbers of other countries cannot be called from here."},
	country:   {yesline.Denied, "Calls to %s are not offered here."},
	never:     {yesline.Denied, "Calls to that number are not offered here."},
	noPrice:   {yesline.Denied, "Calls to %s are not offered here yet."},
	busy:      {yesline.TooMany, "You have as many calls at once as you may. End one first."},
	full:      {yesline.TooMany, "All our lines are busy. Please try again in a few minutes."},
	tooFast:   {yesline.TooMany, "That were many calls in a short time. Please wait a minute."},
	crowd:     {yesline.TooMany, "Many people are calling right now. Please try again in a minute."},
	budget:    {yesline.TooMany, "What you may spend on calls in a day is used up. It starts anew at midnight, UTC."},
	program:   {yesline.TooMany, "What may be spent on calls today is used up. It starts anew at midnight, UTC."},
	trunk:     {yesline.TooMany, "What may be spent on calls today is used up. It starts anew at midnight, UTC."},
	ahead:     {yesline.TooMany, "What may be spent on calls today is used up. The operator has been told."},
	callerID:  {yesline.Denied, "You can only show a number that you have proven to be yours."},
}

func refuse(word, region string) *Refusal {
	s := sentences[word]
	says := s.says
	if word == country || word == noPrice {
		where := "that country"
		if region != "" {
			where = Country(region)
		}
		says = fmt.Sprintf(s.says, where)
	}
	return &Refusal{Kind: s.kind, Word: word, Region: region, Says: says}
}
