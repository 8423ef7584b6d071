"""Rows of what defences keep, from maps whose top tokens are known by hand."""

from types import SimpleNamespace

import torch

from fvit.experiments.attack_rows import kept_rows
from fvit.records.rows import conform


def tops(*tokens):
    """Maps (B, 2, 4), an image for each pair of tokens, which are its two greatest."""
    heat = torch.full((len(tokens), 8), 0.05)
    for row, pair in zip(heat, tokens, strict=True):
        row[list(pair)] = torch.tensor([0.4, 0.3])
    return heat.view(-1, 2, 4)


def test_each_map_is_held_against_its_own_clean_one_and_that_against_the_bare_one():
    images = SimpleNamespace(ids=["a", "b"], groups=["p", "q"])
    clean = {"none": tops((0, 1), (0, 1)), "dds": tops((0, 1), (2, 3))}
    met = {("none", ""): clean["none"], ("none", "vit"): tops((0, 5), (6, 7)), ("dds", ""): clean["dds"],
           ("dds", "vit"): tops((1, 0), (2, 0)), ("dds", "dds"): tops((0, 7), (0, 1))}
    bench = SimpleNamespace(k=2, levels={"none": {}, "dds": {"sigma": 0.25, "n_samples": 16}}.get)
    rows = kept_rows(bench, images, clean, met, {"none": "none", "dds": "dds"})
    found = rows.groupby(["defence", "metric", "aim", "made_on"]).value.apply(list).to_dict()
    assert found == {
        ("none", "topk_overlap", "fresh_noise", ""): [1, 1], ("dds", "topk_overlap", "fresh_noise", ""): [1, 1],
        ("none", "topk_overlap", "explanation_free", "vit"): [0.5, 0], ("none", "fidelity", "none", ""): [1, 1],
        ("dds", "topk_overlap", "explanation_free", "vit"): [1, 0.5],
        ("dds", "topk_overlap", "explanation_free", "dds"): [0.5, 0], ("dds", "fidelity", "none", ""): [1, 0]}
    assert list(rows.defence.unique()) == ["none", "dds"] and list(rows.photograph[:2]) == ["p", "q"]
    of_dds = rows[rows.defence == "dds"]
    assert set(of_dds.n_samples) == {16} and rows[rows.defence == "none"].n_samples.isna().all()
    conform(rows.drop(columns="photograph"), method="raw_attention", eps=0.1, norm="linf", sigma=0.25, k=2)
