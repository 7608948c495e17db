"""
Reads what a provider reports into disjoint classes of usage that add up.

One file for each shape of API, with the same two names in each: ``read`` takes a whole answer (and
the request, where that decides what is paid), ``Stream`` takes the events of one that is streamed
and reads the same. Nothing here does I/O, and nothing that a provider sends makes it fail.

What cannot be is mended by these rules, and ``was_clamped`` tells that it was:

- A count is a whole number from 0 to 10⁹. 12.0 is one, as some providers write whole numbers so;
  2.5, -1, "12", true, NaN and 10¹⁰ are none. A count that is none is 0.
- A duration is a number of seconds from 0 to 10⁶, also as text ("8", "2.5"). It is counted in
  whole milliseconds, rounded half to even; what is no duration is 0.
- Null is not told, and not mended.
- Parts that exceed their whole are cut to what is left of it, in this order: read from the cache,
  written to it, audio, image, video of an input; reasoning, audio, image, video of an output. Text
  is what is left over, whatever a provider says it is.
- Where a total tells no usable count there is no usage at all (None), and it has to be estimated.
- In a stream the last value of each field counts, and nothing is summed. Null, 0 and what is no
  count never replace a count: providers end streams with them.
"""

from typing import Final

from spend.usage.counts import COUNT_MAX
from spend.usage.estimating import estimated
from spend.usage.openai_chat import of_usage as of_openai_chat
from spend.usage.reading import Reading, larger

TOKENS_MAX: Final = COUNT_MAX

__all__ = ["TOKENS_MAX", "Reading", "estimated", "larger", "of_openai_chat"]
