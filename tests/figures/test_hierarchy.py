"""The picture of parts that are made of parts."""

import pytest
import torch

from diffnmf.figures import hierarchy
from diffnmf.figures.hierarchy import save_hierarchy


def test_rows_begin_with_the_coarse_part_and_go_on_with_its_strongest(monkeypatch, tmp_path):
    fine = torch.eye(6, 3) * torch.tensor([1.0, 2.0, 4.0])
    mixing = torch.tensor([[0.5, 0.0], [1.0, 0.0], [0.0, 3.0]])
    shown = {}
    monkeypatch.setattr(
        hierarchy, "save_panels", lambda path, panels, *args, **options: shown.update(panels, **options)
    )
    save_hierarchy(tmp_path / "x.png", fine, mixing, (2, 3), children=2)
    assert shown.pop("columns_per_row") == 3
    (rows,) = (x for x in shown.values() if isinstance(x, torch.Tensor))
    first, strongest, next_one, second, alone, nothing = rows.T
    torch.testing.assert_close(first, torch.tensor([0.25, 1.0, 0, 0, 0, 0]))
    torch.testing.assert_close(strongest, torch.eye(6)[1])
    torch.testing.assert_close(next_one, 0.25 * torch.eye(6)[0])  # 0.5 · 1 against 1 · 2
    torch.testing.assert_close(second, torch.eye(6)[2])
    torch.testing.assert_close(alone, torch.eye(6)[2])
    assert not nothing.any()


def test_a_file_is_written(tmp_path):
    save_hierarchy(tmp_path / "parts.png", torch.rand(16, 5), torch.rand(5, 2), (4, 4), title="Parts")
    assert (tmp_path / "parts.png").stat().st_size > 5_000
    with pytest.raises(ValueError, match="expected the same number of rows"):
        save_hierarchy(tmp_path / "parts.png", torch.rand(16, 5), torch.rand(4, 2), (4, 4))
    with pytest.raises(TypeError, match="fine: expected a real floating-point dtype; got torch.int64"):
        save_hierarchy(tmp_path / "parts.png", torch.ones(16, 5).long(), torch.rand(5, 2), (4, 4))
    with pytest.raises(ValueError, match=r"mixing: expected a matrix .*; got \(5,\)"):
        save_hierarchy(tmp_path / "parts.png", torch.rand(16, 5), torch.rand(5), (4, 4))
    save_hierarchy(tmp_path / "parts.png", torch.rand(16, 5), torch.rand(5, 2).double(), (4, 4))
    assert [file.name for file in tmp_path.iterdir()] == ["parts.png"]
