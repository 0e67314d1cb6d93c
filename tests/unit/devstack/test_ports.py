"""Ports: free ones, given ones, taken ones."""

import socket

import pytest

from headrace.contracts.errors import SetupError
from headrace.devstack.ports import HOST, Claims, free


def test_zero_means_any() -> None:
    with Claims() as claims:
        assert claims.claim(0, "--http-port", "HTTP") > 0


def test_given_port_is_kept() -> None:
    (port,) = free(1)

    with Claims() as claims:
        assert claims.claim(port, "--http-port", "HTTP") == port


def test_taken_port_names_its_option() -> None:
    with socket.create_server((HOST, 0)) as taken, Claims() as claims:
        port = taken.getsockname()[1]

        with pytest.raises(SetupError, match=f"Port {port} for Kafka is taken: .* --kafka-port"):
            claims.claim(port, "--kafka-port", "Kafka")


def test_one_port_for_two_parts() -> None:
    (port,) = free(1)

    with Claims() as claims:
        claims.claim(port, "--http-port", "HTTP")
        with pytest.raises(SetupError, match="is taken"):
            claims.claim(port, "--s3-port", "S3")


def test_all_differ() -> None:
    with Claims() as claims:
        ports = [claims.claim(0, "", ""), *claims.free(20)]

    assert len(set(ports)) == 21


def test_ports_can_be_bound_afterwards() -> None:
    for port in free(5):
        socket.create_server((HOST, port)).close()
