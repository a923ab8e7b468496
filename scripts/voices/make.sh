#!/bin/sh
# Makes every spoken file of Yesline: the prompts that a caller hears, and the
# talk of the demo's simulated phones. Each is raw G.711 mu-law, 8,000 samples
# a second, mono, no header (.ul), with its loudest sample at -6 dB.
#
#   internal/capture/prompts/*.ul   what Yesline says on the line
#   internal/demo/speech/*.ul       what the demo's people say to each other
#
# It needs espeak-ng (tried with 1.51) and sox with soxi (14.4), and nothing
# else; no network. The same versions make the same bytes each time. The files
# are kept in the repository, so run it only after changing a text or a voice:
#
#   scripts/voices/make.sh            makes all of them and measures them
#   scripts/voices/make.sh --check    makes them aside and compares; exit 1 if
#                                     one differs from what is in the repository
#
# A prompt that comes out longer than its limit, or a file that is clipped or
# too quiet, is an error: nothing is replaced then.
set -eu

for tool in espeak-ng sox soxi; do
	command -v "$tool" >/dev/null || { echo "make.sh: $tool is not installed" >&2; exit 2; }
done

root=$(cd "$(dirname "$0")/../.." && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir -p "$work/prompts" "$work/speech"

# seconds of a raw mu-law file, with hundredths
seconds() { awk -v b="$(wc -c <"$1")" 'BEGIN { printf "%.2f", b / 8000 }'; }

# say FILE AT-LEAST AT-MOST VOICE WORDS-A-MINUTE PITCH   (the text is standard input)
# Speaks at the synthesiser's own rate, keeps the band of a telephone, cuts the
# silence around the words to a tenth of a second before and two after, and
# makes the loudest sample -6 dB. -D and -R: no dither, no chance.
say() {
	espeak-ng -v "$4" -s "$5" -p "$6" -w "$work/spoken.wav" --stdin
	sox -D -R "$work/spoken.wav" -r 8000 -c 1 -b 16 "$work/trimmed.wav" \
		gain -6 highpass 200 rate 8000 \
		silence 1 0.01 0.2% reverse silence 1 0.01 0.2% reverse \
		gain -n -6 pad 0.1 0.2
	sox -D -R "$work/trimmed.wav" -t ul "$work/$1"

	long=$(seconds "$work/$1")
	peak=$(sox -t ul -r 8000 -c 1 "$work/$1" -n stat 2>&1 | awk '/^Maximum amp/ { m = $3 } /^Minimum amp/ { n = -$3 } END { print (m > n ? m : n) }')
	rms=$(sox -t ul -r 8000 -c 1 "$work/$1" -n stat 2>&1 | awk '/^RMS.*amplitude/ { print $3 }')
	echo "$1: $long s, peak $peak, mean $rms"
	awk -v s="$long" -v least="$2" -v most="$3" 'BEGIN { exit !(s >= least && s <= most) }' ||
		{ echo "make.sh: $1 is $long s; it must be $2 to $3 s" >&2; exit 1; }
	awk -v p="$peak" -v r="$rms" 'BEGIN { exit !(p > 0.45 && p < 0.55 && r > 0.03) }' ||
		{ echo "make.sh: $1 is clipped or too quiet" >&2; exit 1; }
}

# prompt NAME AT-MOST-SECONDS TEXT: Yesline's own voice, always the same.
prompt() { printf '%s\n' "$3" | say "prompts/$1.ul" 0.5 "$2" en-us+f3 165 50; }

# The texts of ask, ask_once and remembered are what people say yes to: consent
# evidence names their hashes, and a lasting yes ends with another ask or
# remembered. A change to them is a change of the terms, not of wording.
prompt ask 8 "Yesline. Press 1 to be recorded, 2 to refuse, 3 to be recorded with this person from now on; star 9 stops."
prompt ask_once 8 "Yesline. Press 1 to let your voice be recorded, 2 to refuse; star 9 stops."
prompt remembered 8 "Yesline. Your voice is recorded, as you agreed before. Press 2 to refuse, star 9 to stop."

prompt notice 6 "This is Yesline. We will ask you both. Nothing is recorded unless you say yes."
prompt thanks_recording 4 "Thank you. Your voice is recorded."
prompt not_recorded 4 "Nothing is recorded. The call goes on."
prompt stopped 4 "Recording has stopped. The call goes on."
prompt one_side 4 "Only one voice is recorded."
prompt no_emergency 7 "This service cannot carry emergency calls. Hang up and dial from another phone."
prompt cannot_connect 5 "The call cannot be connected. Goodbye."
prompt busy 5 "The other phone is busy. Please try again later."
prompt ring_first 7 "This is Yesline, calling you first. Now we call the other person, and connect you when they answer."
prompt asking_during 6 "Somebody in this call wants to record it. Nothing is recorded unless you say yes."
prompt recording_now 5 "Recording now. Star 9 stops, star 5 pauses."
prompt paused 5 "The recording is paused. Whoever paused it goes on with star 6."
prompt resumed 3 "The recording goes on."

# What "yesline trunk test" says on the line that it tests.
prompt trunk_test_hello 8 "This is Yesline, testing this line. Press 1 to record ten seconds and hear them back, or hang up."
prompt trunk_test_speak 3 "Please speak after the tone."
prompt trunk_test_back 3 "This is what we heard."
prompt trunk_test_bye 4 "Thank you. The test is over. Goodbye."

# talk NAME VOICE WORDS-A-MINUTE PITCH   (the text is standard input)
# Two pairs: Maya with Bob, Ann with Carl. No names, numbers or places are in
# what they say.
talk() { say "speech/$1.ul" 12 20 "$2" "$3" "$4"; }

talk maya en-us+f2 160 70 <<'TEXT'
Good morning! I just came back from the market, and it was so crowded today.
I found the most wonderful tomatoes, and some fresh bread that is still warm.
I thought we could make soup tonight, with garlic and a lot of basil.
If it stops raining, we might even eat outside under the old tree.
TEXT

talk bob en-gb-scotland+m3 150 25 <<'TEXT'
Soup sounds perfect to me. It has been a long week, and I am glad it is over.
The train was late again, so I read half of my book standing on the platform.
I will bring some cheese and that dark honey which you liked last time.
And I promise to wash all the dishes, even the big heavy pot.
TEXT

talk ann en-gb-x-rp+f4 170 60 <<'TEXT'
Did you hear the birds this morning? They woke me before the sun was up.
I made coffee and watered the plants, and the little fern is growing at last.
My neighbour says it needs less light and more patience, rather like me.
Tomorrow I want to paint the kitchen wall yellow, so wear something old.
TEXT

talk carl en-us+m7 155 40 <<'TEXT'
Yellow is a fine choice, it will look cheerful even in the winter.
I have two brushes and a ladder that wobbles, but only on one side.
Let us start early, before it gets too warm, and open every window.
Afterwards we can walk by the river and see whether the boats are back.
TEXT

total=$(cat "$work"/prompts/*.ul "$work"/speech/*.ul | wc -c)
[ "$total" -le 1500000 ] || { echo "make.sh: $total bytes in all; at most 1,500,000" >&2; exit 1; }

if [ "${1:-}" = --check ]; then
	different=0
	for made in "$work"/prompts/*.ul; do
		cmp "$made" "$root/internal/capture/prompts/$(basename "$made")" || different=1
	done
	for made in "$work"/speech/*.ul; do
		cmp "$made" "$root/internal/demo/speech/$(basename "$made")" || different=1
	done
	exit $different
fi

mkdir -p "$root/internal/capture/prompts" "$root/internal/demo/speech"
cp "$work"/prompts/*.ul "$root/internal/capture/prompts/"
cp "$work"/speech/*.ul "$root/internal/demo/speech/"
echo "$total bytes in all"
