"""The completion of words with a colon in bash."""

from __future__ import annotations

from click.shell_completion import BashComplete, CompletionItem, add_completion_class


@add_completion_class
class _Bash(BashComplete):
    """Completion for bash, which splits `shop/api:dev` into three words and replaces only the last."""

    name = "bash"
    _known = ""

    def get_completion_args(self) -> tuple[list[str], str]:
        args, incomplete = super().get_completion_args()
        if incomplete == ":":
            args, incomplete = [*args, ":"], ""
        if len(args) >= 2 and args[-1] == ":":
            self._known = f"{args[-2]}:"
            args = args[:-2]
        return args, self._known + incomplete

    def format_completion(self, item: CompletionItem) -> str:
        return f"{item.type},{str(item.value).removeprefix(self._known)}"
