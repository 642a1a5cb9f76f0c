"""The Tiltfile, the text that loads it as an extension, and the commands of its buttons."""

from __future__ import annotations

from pathlib import Path

TILTFILE = Path(__file__).parents[2] / "Tiltfile"
EXTENSION = f"""
v1alpha1.extension_repo(name='ours', url='file://{TILTFILE.parent}')
v1alpha1.extension(name='autoregistry', repo_name='ours', repo_path='.')
load('ext://autoregistry', 'autoregistry', 'autoregistry_build')
"""
READ = (
    """python3 -c 'import json,sys; [print(i["image"])"""
    """ for i in json.load(sys.stdin)["images"] if i["docker"]]'"""
)
EACH = f"""images=$(autoregistry images --json) && printf %s "$images" | {READ} | xargs -r autoregistry"""
BUTTONS = {
    "push": 'autoregistry push "*"',
    "refresh": f"{EACH} refresh --cluster dev",
    "restart": f"{EACH} restart --cluster dev",
}
