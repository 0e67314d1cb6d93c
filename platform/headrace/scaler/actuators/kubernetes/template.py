"""The operator's pod template, and what is made of it for a version of a model."""

import hashlib
import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import msgspec
import yaml
from lightkube.models.core_v1 import Container, EnvVar, EnvVarSource, ObjectFieldSelector, PodTemplateSpec
from lightkube.models.meta_v1 import ObjectMeta

from headrace.contracts.errors import SetupError
from headrace.contracts.topics import slug
from headrace.scaler.actuators.kubernetes import names
from headrace.scaler.actuators.kubernetes.reading import WORKER
from headrace.settings import Settings

_DEFAULT: Final = "default.yaml"
_POD_NAME: Final = "POD_NAME"
_MESSAGE: Final = "/dev/termination-log"
"""Kubernetes' own default for what a container leaves behind."""


class Templates:
    """One for all models, or a folder with one each."""

    def __init__(self, settings: Settings) -> None:
        """Reads them all, so that what is wrong is said at the start.

        Raises:
            SetupError: there is none, or one is wrong.
        """
        self._grace_s = math.ceil(settings.scaler.drain_s)
        self._own: dict[str, PodTemplateSpec] = {}
        path, image = settings.kubernetes.template, settings.kubernetes.image
        if path is not None and path.is_dir():
            self._own = {each.stem: _read(each) for each in sorted(path.glob("*.yaml"))}
            self._general = _read(path / _DEFAULT)
        elif path is not None:
            self._general = _read(path)
        elif image is not None:
            document = {"spec": {"containers": [{"name": WORKER, "image": image}]}}
            self._general = _checked(document, "HEADRACE_KUBERNETES_IMAGE")
        else:
            raise SetupError(
                "No image for workers: set HEADRACE_KUBERNETES_TEMPLATE or HEADRACE_KUBERNETES_IMAGE"
            )

    def of(self, model: str, version: str) -> tuple[PodTemplateSpec, str]:
        """The template of its pods, and a digest of all that is not the version's own."""
        given = self._own.get(slug(model), self._general)
        spec = msgspec.convert(given.to_dict(), PodTemplateSpec)
        digest = hashlib.sha256(json.dumps([given.to_dict(), self._grace_s]).encode()).hexdigest()[:16]
        meta = spec.metadata = spec.metadata or ObjectMeta()
        own = names.labels(model, names.deployment(model, version))
        meta.labels = {**(meta.labels or {}), **own}
        container = _worker(spec)
        said = {names.MODEL: model, names.VERSION: version, names.CONTAINER: container.name}
        meta.annotations = {**(meta.annotations or {}), **said}
        assert spec.spec is not None, "it was checked"
        if spec.spec.terminationGracePeriodSeconds is None:
            spec.spec.terminationGracePeriodSeconds = self._grace_s
        _complete(container, model, version)
        return spec, digest


def _complete(container: Container, model: str, version: str) -> None:
    message = container.terminationMessagePath or _MESSAGE
    which = ["--model", model, "--version", version, "--unit", f"$({_POD_NAME})", "--journal", message]
    container.args = ["worker", *which]
    name = EnvVar(_POD_NAME, valueFrom=EnvVarSource(fieldRef=ObjectFieldSelector("metadata.name")))
    container.env = [*(each for each in container.env or () if each.name != _POD_NAME), name]


def _worker(template: PodTemplateSpec) -> Container:
    """The container that is ours: the only one, or the one that is called so."""
    containers = template.spec.containers if template.spec is not None else []
    ours = containers if len(containers) == 1 else [each for each in containers if each.name == WORKER]
    if len(ours) != 1:
        raise SetupError(f"none of its {len(containers)} containers is called '{WORKER}'")
    return ours[0]


def _read(path: Path) -> PodTemplateSpec:
    try:
        document = yaml.safe_load(path.read_text())
    except OSError as error:
        raise SetupError(f"Pod template {path} cannot be read: {error.strerror}") from None
    except yaml.YAMLError as error:
        raise SetupError(f"Pod template {path} is no YAML: {' '.join(str(error).split())}") from None
    return _checked(document, str(path))


def _checked(document: Any, where: str) -> PodTemplateSpec:
    """The template; a field that Kubernetes does not know is an error, and not silently nothing."""
    try:
        if not isinstance(document, dict):
            document = {"spec": document}  # the message names what was expected there
        document = _texts({key: each for key, each in document.items() if key not in ("apiVersion", "kind")})
        template = msgspec.convert(document, PodTemplateSpec)
        _check(template, document)
    except (SetupError, msgspec.ValidationError) as error:
        raise SetupError(f"Pod template {where} is wrong: {error}") from None
    return template


def _check(template: PodTemplateSpec, document: Any) -> None:
    lost = next(_lost(document, template.to_dict()), None)
    if lost is not None:
        raise SetupError(f"there is no field `{lost}`")
    if template.spec is None:
        raise SetupError("`spec` is missing")
    if template.spec.restartPolicy not in (None, "Always"):
        raise SetupError("`restartPolicy` must be Always: a Deployment takes no other")
    if not _worker(template).image:
        raise SetupError("the worker's container has no `image`")


def _texts(value: Any, *, is_amounts: bool = False) -> Any:
    """Amounts may be numbers in YAML (`nvidia.com/gpu: 1`); Kubernetes' are text."""
    if isinstance(value, dict):
        return {
            key: _texts(each, is_amounts=key in ("limits", "requests", "overhead"))
            if isinstance(each, dict | list)
            else str(each)
            if is_amounts
            else each
            for key, each in value.items()
        }
    return [_texts(each) for each in value] if isinstance(value, list) else value


def _lost(given: Any, kept: Any, path: str = "") -> Iterator[str]:
    """Paths of what was given and has been left out."""
    if isinstance(given, dict):
        for key, value in given.items():
            inner = f"{path}.{key}" if path else str(key)
            if isinstance(kept, dict) and key in kept:
                yield from _lost(value, kept[key], inner)
            elif value not in (None, {}, []):
                yield inner
    elif isinstance(given, list) and isinstance(kept, list):
        for number, (one, other) in enumerate(zip(given, kept, strict=False)):
            yield from _lost(one, other, f"{path}[{number}]")
