"""Says how a recording sounds beside what was said: PESQ-WB, and how late it is.

Arguments: pairs of files, what was said and what was heard, of 32-bit floats at 16 kHz, which begin at the same
instant; before them --skip SECONDS, which are not judged. One line for each pair: score and delay in milliseconds.
"""

import sys
from concurrent.futures import ProcessPoolExecutor

import numpy
from pesq import pesq

RATE = 16_000
# A sample of PESQ is some seconds of speech.
SEGMENT = 8 * RATE
# The most that a delay may be.
LATEST = RATE


def delay_of(said, heard):
    """By how many samples a second of speech is late; none where nothing in what was heard is like it."""
    size = 1 << (len(said) + len(heard)).bit_length()
    spectrum = numpy.fft.rfft(heard, size) * numpy.conj(numpy.fft.rfft(said, size))
    likeness = numpy.fft.irfft(spectrum, size)[:LATEST]
    at = int(numpy.argmax(likeness))
    power = numpy.linalg.norm(said) * numpy.linalg.norm(heard[at : at + len(said)])
    return at if power > 0 and likeness[at] > 0.5 * power else None


def judge(task):
    said_file, heard_file, skip = task
    said, heard = (numpy.fromfile(name, numpy.float32) for name in (said_file, heard_file))
    scores, delays = [], []
    for begin in range(skip * RATE, len(said) - SEGMENT + 1, SEGMENT):
        part = said[begin : begin + SEGMENT]
        rest = heard[begin : begin + SEGMENT + LATEST]
        found = []
        for second in range(0, SEGMENT, RATE):
            late = delay_of(part[second : second + RATE], rest[second : second + RATE + LATEST])
            if late is not None:
                found.append(late)
        late = int(numpy.median(found)) if found else 0
        delays += found
        other = rest[late : late + SEGMENT]
        score = pesq(RATE, *(numpy.int16(numpy.clip(x, -1, 1) * 32767) for x in (part[: len(other)], other)), "wb")
        scores.append(score)
    delay = numpy.mean(delays) / RATE * 1000 if delays else float("nan")
    return numpy.mean(scores), delay


def main():
    _, _, skip, *files = sys.argv
    tasks = [(said, heard, int(skip)) for said, heard in zip(files[::2], files[1::2])]
    with ProcessPoolExecutor() as pool:
        for score, delay in pool.map(judge, tasks):
            print(f"{score:.4f} {delay:.2f}")


if __name__ == "__main__":
    main()
