"""How many received invoices a second are read and filed, on one core: 200 stores, 100 rules.

The invoices are those of tests/receiver/generator.py, made beforehand; what is measured is bytes to folder: parsing,
finding the store, asking the rules. Every folder is compared with the truth.

    python -m benchmarks.classify [--invoices 10000] [--rounds 3]
"""

from __future__ import annotations

import argparse
import time

from lxml import etree

from ksefbuffer.invoice.received import read_received
from ksefbuffer.receiver.rulebook import read_rulebook
from ksefbuffer.receiver.rules import file
from ksefbuffer.receiver.seen import Facts
from tests.receiver.generator import OUR_NIP, Made, many, rulebook_toml

AIM = 2_000
FIXED_RULES = 5


def one_round(invoices: list[Made], rules: str) -> tuple[float, int]:
    """(invoices a second, wrong folders). The rulebook is read anew, so that nothing is remembered of the stores."""
    rulebook = read_rulebook(rules)
    folders: dict[str, str] = {}
    wrong = 0
    started = time.perf_counter()
    for made in invoices:
        facts = Facts(OUR_NIP, frozenset({"buyer"}), corrected_folder=folders.get(made.corrects))
        folder = file(read_received(made.content), facts, rulebook).folder
        folders[made.ksef_number] = folder
        wrong += folder != made.folder
    return len(invoices) / (time.perf_counter() - started), wrong


def bare(invoices: list[Made]) -> float:
    """Parsing alone, invoices a second."""
    started = time.perf_counter()
    for made in invoices:
        etree.fromstring(made.content)
    return len(invoices) / (time.perf_counter() - started)


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0] if __doc__ else "")
    arguments.add_argument("--invoices", type=int, default=10_000)
    arguments.add_argument("--rounds", type=int, default=3)
    asked = arguments.parse_args()
    invoices = list(many(asked.invoices))
    rules = rulebook_toml(more_rules=100 - FIXED_RULES)
    size = sum(len(made.content) for made in invoices) / len(invoices)
    print(f"{len(invoices)} invoices of {size:.0f} B, 200 stores, {len(read_rulebook(rules).rules)} rules")
    best = 0.0
    for _ in range(asked.rounds):
        speed, wrong = one_round(invoices, rules)
        best = max(best, speed)
        print(f"classified {speed:,.0f}/s (parsing alone {bare(invoices):,.0f}/s), wrong folders: {wrong}")
    print(f"best {best:,.0f}/s, aim {AIM:,}/s: {'reached' if best >= AIM else 'MISSED'}")


if __name__ == "__main__":
    main()
