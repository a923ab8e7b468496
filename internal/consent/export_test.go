package consent

// ReadTerms is given texts that nobody should ever commit.
var ReadTerms = readTerms
