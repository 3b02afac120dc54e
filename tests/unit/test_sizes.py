"""No module and no function of the package is too long; the check itself finds both."""

from pathlib import Path

from tests import sizes


def test_no_module_and_no_function_of_the_package_is_too_long() -> None:
    assert sizes.oversized(sizes.ROOT / "forkserve") == []


def test_what_is_too_long_is_found_with_its_place_and_size(tmp_path: Path) -> None:
    package = tmp_path / "package"
    package.mkdir()
    (package / "a_module.py").write_text("pass\n" * 401)
    fits = ["@cache", "def fits():", *["    pass"] * 39]
    method = ["class Holder:", "    async def method(self):", *["        pass"] * 40]
    (package / "functions.py").write_text("\n".join([*fits, "", *method]))
    assert sizes.oversized(package) == [
        "package/a_module.py: 401 lines, at most 400: split it by sense",
        "package/functions.py:44: method has 41 lines, at most 40: split it by sense",
    ]
