"""What is made of the operator's template, and what is wrong with it."""

import pytest
import yaml

from headrace.contracts.errors import SetupError
from headrace.scaler.actuators.kubernetes import names
from headrace.scaler.actuators.kubernetes.template import Templates
from headrace.settings import KubernetesSettings, ScalerSettings, Settings

_GIVEN = """\
metadata: {labels: {team: blue}, annotations: {note: keep}}
spec:
  terminationGracePeriodSeconds: 90
  tolerations: [{key: nvidia.com/gpu, operator: Exists}]
  containers:
    - {name: proxy, image: proxy:1, args: [x]}
    - name: worker
      image: headrace:1
      envFrom: [{secretRef: {name: headrace}}]
      env: [{name: HEADRACE_LOG_FORMAT, value: json}]
      terminationMessagePath: /tmp/last-words
      resources: {limits: {nvidia.com/gpu: 2, memory: 64Gi}}
"""


def templates(path, drain_s: float = 35.0) -> Templates:
    return Templates(
        Settings(kubernetes=KubernetesSettings(template=path), scaler=ScalerSettings(drain_s=drain_s))
    )


def test_an_image_is_enough():
    settings = Settings(
        kubernetes=KubernetesSettings(image="headrace:1"), scaler=ScalerSettings(drain_s=20.5)
    )
    made, _ = Templates(settings).of("acme/chat", "1" * 12)
    (container,) = made.spec.containers
    assert (container.name, container.image) == ("worker", "headrace:1")
    wanted = (
        f"worker --model acme/chat --version {'1' * 12} --unit $(POD_NAME) --journal /dev/termination-log"
    )
    assert container.args == wanted.split()
    assert made.spec.terminationGracePeriodSeconds == 21
    assert made.metadata.labels["headrace.dev/deployment"] == f"acme--schat-{'1' * 12}"


def test_the_rest_is_the_operators(tmp_path):
    path = tmp_path / "pod.yaml"
    path.write_text(_GIVEN)
    made, _ = templates(path).of("chat", "1" * 12)
    given = yaml.safe_load(_GIVEN)
    proxy, worker = made.spec.containers
    assert proxy.args == ["x"]
    assert worker.args[-2:] == ["--journal", "/tmp/last-words"]
    assert [each.name for each in worker.env] == ["HEADRACE_LOG_FORMAT", "POD_NAME"]
    assert worker.resources.limits == {"nvidia.com/gpu": "2", "memory": "64Gi"}
    assert made.spec.terminationGracePeriodSeconds == 90
    assert made.spec.tolerations[0].to_dict() == given["spec"]["tolerations"][0]
    assert made.metadata.labels.items() > {"team": "blue"}.items()
    assert made.metadata.annotations == {
        "note": "keep",
        "headrace.dev/model": "chat",
        "headrace.dev/version": "1" * 12,
        "headrace.dev/container": "worker",
    }


def test_a_model_may_have_its_own(tmp_path):
    pods = {"default": "headrace:cpu", "acme--slarge": "headrace:gpu"}
    for name, image in pods.items():
        text = yaml.safe_dump({"spec": {"containers": [{"name": "any", "image": image}]}})
        (tmp_path / f"{name}.yaml").write_text(text)
    made = templates(tmp_path)
    assert made.of("acme/large", "1")[0].spec.containers[0].image == "headrace:gpu"
    assert made.of("acme/large", "1")[0].metadata.annotations[names.CONTAINER] == "any"
    assert made.of("acme/small", "1")[0].spec.containers[0].image == "headrace:cpu"


def test_a_template_that_is_the_same_has_the_same_digest(tmp_path):
    path = tmp_path / "pod.yaml"
    path.write_text(_GIVEN)
    _, digest = templates(path).of("chat", "1")
    assert templates(path).of("chat", "1")[1] == digest
    path.write_text(_GIVEN.replace("headrace:1", "headrace:2"))
    assert templates(path).of("chat", "1")[1] != digest


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[1", "is no YAML"),
        ("- 1", "Expected `object"),
        ("spec: {}", "containers"),
        ("metadata: {}", "`spec` is missing"),
        ("spec: {containers: [{name: worker, image: x, imagee: y}]}", "no field `spec.containers[0].imagee`"),
        ("spec: {containers: [{name: worker, image: 3}]}", "`int` - at `$.spec.containers[0].image`"),
        ("spec: {containers: [{name: worker}]}", "has no `image`"),
        ("spec: {containers: [{name: a, image: x}, {name: b, image: y}]}", "2 containers is called 'worker'"),
        ("spec: {restartPolicy: Never, containers: [{name: a, image: x}]}", "must be Always"),
    ],
)
def test_what_is_wrong_is_said_in_a_sentence(tmp_path, text, words):
    path = tmp_path / "pod.yaml"
    path.write_text(text)
    with pytest.raises(SetupError) as caught:
        templates(path)
    assert words in str(caught.value)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_none_at_all_and_one_that_is_not_there(tmp_path):
    with pytest.raises(SetupError, match="HEADRACE_KUBERNETES_TEMPLATE or HEADRACE_KUBERNETES_IMAGE"):
        templates(None)
    with pytest.raises(SetupError, match=r"default\.yaml cannot be read: No such file"):
        templates(tmp_path)
