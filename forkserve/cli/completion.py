"""Completion in the system's shells: a small script for each, which asks forkservectl itself what may come next.

So a script never has to be regenerated, and names of watchers are those of the running master.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path

from forkserve.cli.commandline import command_line
from forkserve.cli.completing import Candidate, completions
from forkserve.cli.ctlparser import ctl_parser
from forkserve.cli.instances import chosen
from forkserve.cli.names import KnownNames

__all__ = ["COMPLETE", "SCRIPTS", "complete_words"]

COMPLETE = "__complete"
"""The first argument by which a script asks; the words typed so far follow, the last one unfinished."""

_BASH = """# bash completion of forkservectl: eval "$(forkservectl completion bash)", or this text as
# ~/.local/share/bash-completion/completions/forkservectl
_forkservectl() {
    local word help
    COMPREPLY=()
    while IFS=$'\\t' read -r word help; do
        if [[ $word == :files ]]; then
            compopt -o default
        else
            COMPREPLY+=("$word")
        fi
    done < <("${COMP_WORDS[0]}" __complete "${COMP_WORDS[@]:1:COMP_CWORD}" 2>/dev/null)
    if [[ ${#COMPREPLY[@]} -eq 1 && ${COMPREPLY[0]} == *= ]]; then
        compopt -o nospace
    fi
}
complete -F _forkservectl forkservectl
"""
_ZSH = """#compdef forkservectl
# zsh completion of forkservectl: source <(forkservectl completion zsh) behind compinit, or this text as
# _forkservectl in a folder of $fpath
_forkservectl() {
    local line word
    local -a described assignments
    for line in "${(@f)$("${words[1]}" __complete "${(@)words[2,CURRENT]}" 2>/dev/null)}"; do
        word=${line%%$'\\t'*}
        if [[ $word == :files ]]; then
            _files
        elif [[ -z $word ]]; then
            continue
        elif [[ $word == *= ]]; then
            assignments+=("$word")
        else
            described+=("${word//:/\\\\:}:${line#*$'\\t'}")
        fi
    done
    (( ${#described} )) && _describe forkservectl described
    (( ${#assignments} )) && compadd -S '' -a assignments
}
if [[ $funcstack[1] == _forkservectl ]]; then
    _forkservectl "$@"
else
    compdef _forkservectl forkservectl
fi
"""
_FISH = """# fish completion of forkservectl: this text as ~/.config/fish/completions/forkservectl.fish
function __forkservectl_complete
    set -l words (commandline -opc)
    for line in ($words[1] __complete $words[2..] (commandline -ct) 2>/dev/null)
        if string match -q -- \\t'*' $line
            __fish_complete_path (commandline -ct)
        else
            printf '%s\\n' $line
        end
    end
end
complete -c forkservectl -f -a '(__forkservectl_complete)'
"""
SCRIPTS: Mapping[str, str] = {"bash": _BASH, "zsh": _ZSH, "fish": _FISH}
"""By the name of the shell."""


def complete_words(words: Sequence[str]) -> str:
    """Return a line for each word that may replace the last one: the word, a tab, a description."""
    *before, word = words or ("",)
    given = _choice(before)
    names = KnownNames(
        lambda: Path(given["--socket"]) if "--socket" in given else chosen(given.get("-n"), given.get("-c"))
    )
    found = completions(command_line(ctl_parser()), before, word, names)
    return "".join(f"{_line(each)}\n" for each in found)


def _line(candidate: Candidate) -> str:
    return f"{candidate.word}\t{candidate.help.partition(chr(10))[0]}"


def _choice(words: Sequence[str]) -> dict[str, str]:
    """Return the flags on the line that choose a master."""
    spellings = {"-c": "-c", "--config": "-c", "-n": "-n", "--name": "-n"}
    spellings |= dict.fromkeys(("--socket", "--control"), "--socket")
    return {spellings[flag]: value for flag, value in pairwise(words) if flag in spellings}
