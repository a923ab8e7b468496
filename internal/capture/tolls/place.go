package tolls

import (
	"github.com/nyaruka/phonenumbers"

	"yesline"
)

// Shown is a number as people write it, for whoever typed it.
func Shown(number yesline.Phone) string {
	n, err := phonenumbers.Parse(number.Digits(), "")
	if err != nil {
		return ""
	}
	return phonenumbers.Format(n, phonenumbers.INTERNATIONAL)
}

// Place is where a number's area is, in words: "Kansas", "London", a country;
// "" when it says nothing. It is no evidence of where its holder is.
func Place(number yesline.Phone) string {
	n, err := phonenumbers.Parse(number.Digits(), "")
	if err != nil {
		return ""
	}
	country := ""
	if region := phonenumbers.GetRegionCodeForNumber(n); region != "" {
		country = Country(region)
	}
	area, err := phonenumbers.GetGeocodingForNumber(n, "en")
	switch {
	case err != nil || area == "" || area == country:
		return country
	case country == "":
		return area
	}
	return area + ", " + country
}
