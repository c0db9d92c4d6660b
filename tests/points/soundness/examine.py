"""One case of the fuzzer: prove, judge, record, check, change the record, and judge what is confirmed."""

import json
import random
import re
import warnings
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final

from samirage.errors import UserError
from samirage.points import check_record, prove
from tests.points.soundness.cases import Case
from tests.points.soundness.exact import exact
from tests.points.soundness.forgery import forgeries
from tests.points.soundness.functions import make
from tests.points.soundness.mutations import Mutation, mutate
from tests.points.soundness.oracle import judge
from tests.points.soundness.search import Candidate, candidates
from tests.points.soundness.theorem import NoTheorem, Theorem, of_proof, of_record, of_sentence, plain

REFUSALS: Final = (ValueError, UserError)
"""What a documented refusal is; a TypeError of `prove` is one too, for functions that balls cannot evaluate."""


@dataclass
class Tally:
    """What has been seen.

    Attributes:
        counts: How often.
        families: Of each family of functions: its true hallucinated points, and those that were proved.
        reasons: Why points that should be provable were not proved.
        findings: What is wrong, by kind, with the first example.
        numbers: How often each kind of finding occurred.
        first: After how many formulas each kind of finding was first seen.
        refused: The true records that the checker did not confirm.
    """

    counts: Counter[str] = field(default_factory=Counter)
    families: Counter[str] = field(default_factory=Counter)
    reasons: Counter[str] = field(default_factory=Counter)
    findings: dict[str, str] = field(default_factory=dict)
    numbers: Counter[str] = field(default_factory=Counter)
    first: dict[str, int] = field(default_factory=dict)
    refused: list[str] = field(default_factory=list)
    on_finding: Callable[[str, str], None] = lambda kind, text: None

    def wrong(self, kind: str, text: str) -> None:
        """Note a finding, and pass it on."""
        self.numbers[kind] += 1
        self.findings.setdefault(kind, text)
        self.first.setdefault(kind, self.counts["formulas"])
        self.on_finding(kind, text)


def examine(case: Case, tally: Tally, mutations: int) -> None:
    """Try to prove everything about one function, and hold what is proved against the oracle."""
    tally.counts["formulas"] += 1
    f = make(case.name, case.arguments)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the search, in float64; not what is tested
        points = list(candidates(case, f))
    for candidate in points:
        _examine_point(case, f, candidate, tally, mutations)


def _examine_point(case: Case, f: Any, candidate: Candidate, tally: Tally, mutations: int) -> None:
    lr = None
    if case.lr_part is not None:
        lr = case.lr_part * (candidate.max_stable_lr or 0.1)
    where = f"{case.name} {json.dumps(case.arguments)} rho={candidate.rho!r} lr={lr!r} x={candidate.x.tolist()}"
    tally.counts[f"points: {candidate.origin}"] += 1
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            proof = prove(f, candidate.x, candidate.rho, lr=lr, radius=case.radius, bits=case.bits)
            if not proof.proved and (case.radius is not None or lr is not None):
                _note(case, candidate, prove(f, candidate.x, candidate.rho), tally)
            else:
                _note(case, candidate, proof, tally)
    except (*REFUSALS, TypeError) as error:
        tally.counts["points refused by prove"] += 1
        if isinstance(error, TypeError) and case.honest:
            tally.wrong("prove: TypeError", f"{where}: {error}")
        _examine_forgeries(case, f, candidate, tally)
        return
    except Exception as error:  # whatever else there is, is a finding
        tally.wrong(f"prove: traceback {type(error).__name__}", f"{where}: {error!r}")
        return
    if not proof.proved:
        _examine_forgeries(case, f, candidate, tally)
    if proof.theorem is None:
        return
    tally.counts["theorems" if proof.proved else "theorems in part"] += 1
    truth = exact(case.name, case.arguments)
    theorem = of_proof(proof)
    _judged(theorem, truth, "theorem", where, proof.statement, tally)
    try:
        said = of_sentence(proof.statement, theorem)
    except NoTheorem as error:
        tally.wrong("sentence: unread", f"{where}: {error}: {proof.statement}")
    else:
        if said != plain(theorem):  # what is printed is judged too, unless it is the same
            _judged(said, truth, "sentence", where, proof.statement, tally)
    if proof.proved:
        _examine_record(case, f, proof, where, tally, mutations)


def _note(case: Case, candidate: Candidate, proof: Any, tally: Tally) -> None:
    """Count how many of the true hallucinated points are proved to be some, whatever else is asked of them."""
    if candidate.origin != "hallucinated":
        return
    tally.families[f"{case.family}: true points"] += 1
    tally.families[f"{case.family}: proved"] += proof.proved
    tally.counts["true points proved"] += proof.proved
    if candidate.regular and case.honest:
        tally.counts["regular true points"] += 1
        tally.counts["regular true points proved"] += proof.proved
    if not proof.proved:
        kind = "regular" if candidate.regular else "singular, or x⁺ no minimizer"
        tally.reasons[f"{kind}: {re.sub(r'[0-9.e+-]+', '#', proof.reason)[:100]}"] += 1


def _judged(theorem: Theorem, truth: Any, kind: str, where: str, said: str, tally: Tally) -> bool:
    wrong = judge(theorem, truth)
    if wrong:
        tally.wrong(f"{kind}: {theorem.reduction}: {_kind(wrong[0])}", f"{where}: {'; '.join(wrong)}; said: {said}")
    return not wrong


def _kind(sentence: str) -> str:
    return re.sub(r"-?\d[\d.]*(e[+-]?\d+)?", "#", sentence)[:70]


def _examine_record(case: Case, f: Any, proof: Any, where: str, tally: Tally, mutations: int) -> None:
    text = proof.record(case.name, case.arguments)
    tally.counts["records"] += 1
    tally.counts[f"records: {proof.reduction}"] += 1
    tally.counts["records with attraction"] += proof.attraction is not None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            check = check_record(text, make)
    except Exception as error:
        tally.wrong(f"check: true record: {type(error).__name__}", f"{where}: {error!r}")
        return
    if not check.confirmed:
        # The theorem is true, as far as the oracle tells: nothing false was said, but the checker's balls are wider.
        tally.counts["false refusals"] += 1
        failed = "; ".join(line for line in check.lines if "NOT" in line)
        tally.refused.append(f"{where}: {failed}")
        return
    record = json.loads(text)
    try:
        told = of_record(record, f.dim)
    except NoTheorem as error:
        tally.wrong("record: unread", f"{where}: {error}: {text}")
        return
    if told != plain(of_proof(proof)) or record["statement"] != proof.statement:
        _judged(told, exact(case.name, case.arguments), "record", where, proof.statement, tally)
    rng = random.Random(case.seed)
    for _ in range(mutations):
        examine_mutation(record, mutate(record, rng), tally)


def _examine_forgeries(case: Case, f: Any, candidate: Candidate, tally: Tally) -> None:
    """Write records that the prover did not, of a point that it would not take: the checker must not either."""
    for record in forgeries(case, f, candidate):
        tally.counts["forgeries"] += 1
        where = json.dumps(record, ensure_ascii=False)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("error")
                check = check_record(where, make)
        except (*REFUSALS, TypeError) as error:
            tally.counts["forgeries refused"] += 1
            if isinstance(error, TypeError) and case.honest:
                tally.wrong("forgery: TypeError", f"{where}: {error!r}")
            continue
        except Exception as error:
            tally.wrong(f"forgery: traceback {type(error).__name__}", f"{where}: {error!r}")
            continue
        if check.confirmed:
            wrong = _false_of_confirmed(record, Mutation(where, (), "forged"))
            tally.counts["forgeries confirmed and true"] += not wrong
            if wrong:
                tally.wrong(f"forgery: confirmed though false: {_kind(wrong)}", f"{where}: {wrong}")
        else:
            tally.counts["forgeries not confirmed"] += 1


def examine_mutation(record: dict[str, Any], mutation: Mutation, tally: Tally) -> None:
    """Check a changed record: it has to be refused, unless what it says is true."""
    tally.counts["mutations"] += 1
    place = ".".join("#" if isinstance(key, int) else key for key in mutation.path[:2]) or "text"
    where = f"{mutation.path} {mutation.what} in {json.dumps(record, ensure_ascii=False)}"
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            check = check_record(mutation.text, make)
    except REFUSALS as error:
        message = str(error)
        tally.counts["mutations refused"] += 1
        if isinstance(error, UnicodeError | json.JSONDecodeError) or not message or "\n" in message.strip():
            tally.wrong(f"mutation: unclear refusal at {place}", f"{where}: {error!r}")
        return
    except Exception as error:
        tally.wrong(f"mutation: traceback {type(error).__name__} at {place}", f"{where}: {error!r}")
        return
    if not check.confirmed:
        tally.counts["mutations not confirmed"] += 1
        return
    tally.counts["mutations confirmed"] += 1
    wrong = _false_of_confirmed(record, mutation)
    if wrong:
        tally.wrong(f"mutation: confirmed though false at {place}: {_kind(wrong)}", f"{where}: {wrong}")
    else:
        tally.counts["mutations confirmed and true"] += 1


def _false_of_confirmed(record: dict[str, Any], mutation: Mutation) -> str:
    """Return what is false about a changed record that was confirmed; an empty text where nothing is."""
    repeated: list[str] = []
    try:
        changed = json.loads(mutation.text, object_pairs_hook=lambda items: _noting(items, repeated))
        if repeated:
            return f"it has the keys {repeated} twice"
        theorem = of_record(changed, make(changed["function"], changed["arguments"]).dim)
        said = of_sentence(changed["statement"], theorem)
        truth = exact(changed["function"], changed["arguments"])
        wrong = judge(theorem, truth) or ([] if said == theorem else judge(said, truth))
    except (NoTheorem, ValueError, KeyError, TypeError, RecursionError) as error:
        return f"it says nothing: {error}"
    if not wrong and changed["statement"] != record["statement"] and said == of_sentence(record["statement"], theorem):
        return "its statement has changed, and no number in it"
    return "; ".join(wrong)


def _noting(items: list[tuple[str, Any]], repeated: list[str]) -> dict[str, Any]:
    keys = [key for key, _ in items]
    repeated += [key for key in set(keys) if keys.count(key) > 1]
    return dict(items)
