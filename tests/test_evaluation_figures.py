"""Bootstrap, table, figures and report on made-up records with known answers."""

import gzip
import lzma
import math
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from commin.errors import UserError
from commin.evaluation import figures
from commin.evaluation.bootstrap import interval, paired
from commin.evaluation.drawing import draw
from commin.evaluation.records import WHOLE_SET, Record, append_lines
from commin.evaluation.report import page
from commin.evaluation.results import read_results
from commin.evaluation.table import HEADER, as_text, cells, summarise, write_csv

SYSTEMS = {
    "deepjscc": ("plain", 0.0, 0.0, 0.01), "commin-fast": ("plain", -0.9, -0.12, 0.8),
    "commin": ("plain", -1.2, -0.13, 30.0), "inverse-jscc": ("lpips", -2.5, -0.08, 12.0),
    "retrieval": ("reference", -0.4, -0.05, 0.02), "random-face": ("reference", -9.0, 0.05, 0.001),
    "pca": ("reference", -1.5, 0.05, 0.002), "opta": ("reference", 1.5, 0.0, 0.0),
}  # fmt: skip
"""Class, PSNR and LPIPS beside deepjscc's, seconds."""


def made_up(pictures: int = 12, lpips: bool = True) -> list[Record]:
    """Records of `SYSTEMS` at nine points, four pictures a person."""
    draws = torch.randn(pictures, generator=torch.Generator().manual_seed(0)).tolist()
    records = []
    for name, (group, gain, closer, seconds) in SYSTEMS.items():
        for index, (bcr, k) in enumerate({"1/192": 64, "1/48": 256, "1/12": 1024}.items()):
            for snr in (-5.0, 0.0, 5.0):
                for picture in range(1 if name == "opta" else pictures):
                    psnr = 19 + 2.5 * index + 0.3 * snr + gain + (0 if name == "opta" else draws[picture])
                    distance = 0.32 - 0.06 * index - 0.008 * snr + closer + 0.02 * draws[picture]
                    records.append(
                        Record(
                            image=WHOLE_SET if name == "opta" else f"{picture}.png", digest="", model="m", system=name,
                            group=group, channel="awgn", bcr=bcr, k=k, n=12288, snr_db=snr, design_snr_db=snr,
                            measured_snr_db=snr, seed=0, psnr_db=psnr, ssim=0.7,
                            lpips=distance if lpips and name != "opta" else None,
                            lpips_backbone="squeeze" if lpips and name != "opta" else None, seconds=seconds,
                            network_calls=0, versions={}, weights={}, identity=str(picture // 4),
                        )
                    )  # fmt: skip
    return records


@pytest.fixture
def results(tmp_path: Path) -> Path:
    folder = tmp_path / "results"
    folder.mkdir()
    append_lines(made_up(), folder / "records-0.jsonl")
    return folder


def test_interval_of_independent_values() -> None:
    values = torch.randn(400, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    found = interval(values, [str(i) for i in range(400)])
    half = 1.96 * float(values.std()) / 20
    assert found.mean == pytest.approx(float(values.mean()))
    assert found.low == pytest.approx(found.mean - half, abs=0.02)
    assert found.high == pytest.approx(found.mean + half, abs=0.02)


def test_pictures_of_one_person_are_one_draw() -> None:
    persons = torch.randn(20, generator=torch.Generator().manual_seed(0))
    once = interval(persons, [str(i) for i in range(20)])
    often = interval(persons.repeat_interleave(20), [str(i // 20) for i in range(400)])
    assert often.low == pytest.approx(once.low)
    assert often.high == pytest.approx(once.high)
    assert math.isnan(interval(persons, ["same"] * 20).low)


def test_paired_differences_are_sharper_than_intervals() -> None:
    noise = torch.randn(60, generator=torch.Generator().manual_seed(0))
    names = [str(i // 3) for i in range(60)]
    assert paired(noise + 0.1, noise, names).excludes_zero
    assert not interval(noise + 0.1, names).excludes_zero
    with pytest.raises(ValueError, match="identities"):
        interval(noise, names[:-1])


def test_the_tables_figures(results: Path) -> None:
    rows = summarise(read_results(results))
    assert len(rows) == 72
    row = next(r for r in rows if (r.system, r.place.bcr, r.place.snr_db) == ("commin-fast", "1/48", 0.0))
    assert (row.k, row.pictures, row.identities) == (256, 12, 3)
    assert row.psnr_gain.mean == pytest.approx(-0.9)
    assert row.lpips_gain.low == pytest.approx(-0.12)
    assert row.beyond_retrieval.mean == pytest.approx(-0.07)
    assert row.psnr_of_mse_db < row.psnr_db.mean
    assert [r.group for r in rows[:8]] == ["plain"] * 3 + ["lpips"] + ["reference"] * 4
    assert all(len(cells(r)) == len(HEADER) for r in rows)
    assert as_text(rows).count("\n") == 72


def test_the_table_does_not_depend_on_the_order(tmp_path: Path) -> None:
    records = made_up()
    tables = []
    for name, order in (("a", records), ("b", [*reversed(records), *records[:9]])):
        folder = tmp_path / name
        folder.mkdir()
        append_lines(order, folder / "records-0.jsonl")
        write_csv(summarise(read_results(folder)), folder / "table.csv")
        tables.append((folder / "table.csv").read_bytes())
    assert tables[0] == tables[1]


@pytest.mark.parametrize(("end", "compress"), [("gz", gzip.compress), ("xz", lzma.compress)])
def test_compressed_records_are_read_as_they_are(end: str, compress: Callable[[bytes], bytes], tmp_path: Path) -> None:
    plain = tmp_path / "records-0.jsonl"
    append_lines(made_up(), plain)
    rows = cells(summarise(read_results(tmp_path))[0])
    (tmp_path / f"records-0.jsonl.{end}").write_bytes(compress(plain.read_bytes()))
    plain.unlink()
    assert cells(summarise(read_results(tmp_path))[0]) == rows


@pytest.mark.parametrize(("end", "compress"), [("gz", gzip.compress), ("xz", lzma.compress)])
def test_damaged_records_are_one_line(end: str, compress: Callable[[bytes], bytes], tmp_path: Path) -> None:
    plain, path = tmp_path / "records-0.jsonl", tmp_path / f"records-0.jsonl.{end}"
    append_lines(made_up(), plain)
    whole = compress(plain.read_bytes())
    plain.unlink()
    middle = len(whole) // 2
    for damaged in (whole[:middle], b"nonsense", whole[:middle] + bytes(8) + whole[middle + 8 :]):
        path.write_bytes(damaged)
        with pytest.raises(UserError, match=f"{path.name}"):
            read_results(tmp_path)


def test_no_records_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no records there"):
        read_results(tmp_path)
    for content in (b"nonsense\n", b"\xff\xfe\n"):
        (tmp_path / "records-0.jsonl").write_bytes(content)
        with pytest.raises(UserError, match="not a record"):
            read_results(tmp_path)


def test_the_report_needs_no_other_file(results: Path, tmp_path: Path) -> None:
    picture = tmp_path / "a<b.png"
    picture.write_bytes(b"pixels")
    html = page("R & D", summarise(read_results(results)), [picture], 0.1)
    assert "R &amp; D" in html
    assert "data:image/png;base64,cGl4ZWxz" in html
    assert "a&lt;b" in html
    assert "http" not in html
    assert html.count("<tr>") == 73


def test_figures_need_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(UserError, match=r"commin\[plot\]"):
        figures.matplotlib()


@pytest.mark.parametrize("lpips", [True, False])
def test_every_figure_is_drawn(tmp_path: Path, lpips: bool) -> None:
    pytest.importorskip("matplotlib")
    import typer

    from commin.cli.plot import plot
    from commin.cli.report import report

    app = typer.Typer()
    app.command()(plot)
    app.command()(report)
    append_lines(made_up(lpips=lpips), tmp_path / "records-0.jsonl")
    done = CliRunner().invoke(app, ["plot", str(tmp_path), "-o", str(tmp_path / "figures"), "--no-grid"])
    assert done.exit_code == 0, done.output
    names = {"quality-awgn", "time"} | ({"perception-awgn"} if lpips else set())
    assert {p.name for p in (tmp_path / "figures").iterdir()} == {f"{n}.{s}" for n in names for s in ("png", "pdf")}
    assert CliRunner().invoke(app, ["report", str(tmp_path), "-o", str(tmp_path / "r.html")]).exit_code == 0
    assert (tmp_path / "r.html").stat().st_size > 20_000


def test_what_was_made_for_one_snr_has_a_figure_of_its_own(tmp_path: Path) -> None:
    pyplot = pytest.importorskip("matplotlib.pyplot")
    append_lines(
        [record.model_copy(update={"design_snr_db": 0.0}) for record in made_up()], tmp_path / "records-0.jsonl"
    )
    names = [path.name for path in draw(tmp_path, tmp_path) if path.name.startswith("quality")]
    shown = figures.quality_over_snr(summarise(read_results(tmp_path)), "awgn", 0.0)
    pyplot.close(shown)
    curves = {bars.get_label(): len(bars.lines[0].get_xdata()) for bars in shown.axes[0].containers}
    assert names == [f"quality-awgn{made}.{kind}" for made in ("", "-made-for+0dB") for kind in ("png", "pdf")]
    assert curves == dict.fromkeys(SYSTEMS, 3)


def test_the_picture_grid(codec_file: Path, tmp_path: Path) -> None:
    from commin.evaluation.config import SweepConfig
    from commin.evaluation.grid import picture_grid
    from commin.images import save_picture, to_picture
    from tests.conftest import smooth_images

    photo = tmp_path / "photo.png"
    save_picture(to_picture(smooth_images(1, 80)[0]), photo)
    content = {"model": str(codec_file), "systems": ["deepjscc", "pca"], "bcr": ["1/48"], "snr_db": [-5, 5]}
    grid = picture_grid(photo, SweepConfig.model_validate(content), "1/48")
    assert grid.width > 3 * 192
    with pytest.raises(UserError, match="no receivers"):
        picture_grid(photo, SweepConfig.model_validate(content | {"systems": ["pca"]}), "1/48")


def test_a_mismatch_has_a_figure_with_a_panel_for_each_snr_told(tmp_path: Path) -> None:
    pyplot = pytest.importorskip("matplotlib.pyplot")
    told = [{"design_snr_db": snr, "told_snr_db": snr} for snr in (-5.0, 5.0)]
    for update in [*told, {"design_snr_db": 5.0, "told_snr_db": -5.0}]:
        append_lines([record.model_copy(update=update) for record in made_up()], tmp_path / "records-0.jsonl")
    assert [path.name for path in draw(tmp_path, tmp_path)] == [
        f"mismatch-awgn-{bcr}.{kind}"
        for bcr in sorted({r.bcr.replace("/", "-") for r in made_up()})
        for kind in ("png", "pdf")
    ]
    shown = figures.mismatch_over_snr(summarise(read_results(tmp_path)), "awgn", made_up()[0].bcr)
    pyplot.close(shown)
    assert [axis.get_title() for axis in shown.axes[:2]] == ["both ends told -5 dB", "both ends told 5 dB"]
    curves = {bars.get_label(): len(bars.lines[0].get_xdata()) for bars in shown.axes[0].containers}
    assert curves == dict.fromkeys(SYSTEMS, 3)
