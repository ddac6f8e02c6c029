"""Keys in the path of a URL are found by their looks; what providers put into paths as names stays readable."""

from __future__ import annotations

import random
import string
import uuid

import pytest
from expresslane.masking import MASK, SecretCutter, masked, masked_url, url_secrets

SEED = 20_260

# The shapes in which providers document their addresses: models, deployments and places by name.
READABLE = [
    "https://api.openai.com/v1/models/ft:gpt-4o-mini-2024-07-18:acme::9aBcDeF1",
    "https://acme-eastus2.openai.azure.com/openai/deployments/gpt-4o-mini-2024-07-18/chat/completions",
    "https://acme.openai.azure.com/openai/deployments/gpt35turbo16k0613deployment",
    "https://api.anthropic.com/v1/models/claude-3-5-sonnet-20241022",
    "https://generativelanguage.googleapis.com/v1beta/models/gemini-2.5-flash-lite-preview-06-17",
    "https://us-central1-aiplatform.googleapis.com/v1beta1/projects/acme-project-123456/locations/us-central1/endpoints/openapi",
    "https://bedrock-runtime.us-east-1.amazonaws.com/model/us.anthropic.claude-3-5-sonnet-20241022-v2:0/invoke",
    "https://runtime.sagemaker.us-east-1.amazonaws.com/endpoints/jumpstart-dft-hf-llm-mistral-7b-20240131-123456/invocations",
    "https://acme.cloud.databricks.com/serving-endpoints/databricks-meta-llama-3-1-70b-instruct/invocations",
    "https://api-inference.huggingface.co/models/meta-llama/Meta-Llama-3.1-70B-Instruct/v1",
    "https://router.huggingface.co/hf-inference/mistralai/Mixtral-8x22B-Instruct-v0.1",
    "https://api.deepinfra.com/v1/inference/Qwen/Qwen3-235B-A22B-Instruct-2507",
    "https://api.fireworks.ai/inference/v1/accounts/fireworks/models/llama-v3p1-405b-instruct",
    "https://api.replicate.com/v1/models/meta/meta-llama-3-70b-instruct/predictions",
    "https://api.cloudflare.com/client/v4/accounts/0123456789abcdef0123456789abcdef/ai/v1",
    "https://api.nvcf.nvidia.com/v2/nvcf/pexec/functions/b0fcd392-e905-4ab4-8eb9-aeae95c30b37",
    "https://us-south.ml.cloud.ibm.com/ml/v1/deployments/3f2a91c4-7d1e-4b52-9c55-0a1b2c3d4e5f/text/generation",
    "https://api.runpod.ai/v2/vllm-9k2mz7q1x4ab/openai/v1",
    "https://model-7qk2m9z1.api.baseten.co/environments/production/sync/v1",
    "https://openrouter.ai/api/v1/deepseek/deepseek-r1-distill-qwen-32b",
    "http://k8s/llama-3-1-8b-instruct-predictor-7d9f8b6c5d-x2x4z/v1",
    "http://gpu:8000/models/codellama-34b-instruct-hf.Q4_K_M.gguf/v1",
    "http://gpu/text-embedding-ada-002/nomic-embed-text-v1.5/phi-3-mini-128k-instruct/pplx-70b-chat-online",
    "http://gpu/anAddressInWordsWithoutAnyDigits/2024120112345678901234/token/generate/tokens/v1",
]


@pytest.mark.parametrize("url", READABLE)
def test_names_of_models_and_deployments_stay_readable(url: str) -> None:
    """As they stand in the addresses of the usual providers, in whole."""
    assert masked_url(url) == url
    assert url_secrets(url) == ()


@pytest.mark.parametrize(
    "key",
    [
        "sk-canaryinthepath",
        "sk-proj-Ab3dE_fGh1",
        "hf_abcdefghijkl",
        "gsk_12345678",
        "r8_abcdefgh",
        "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.c2ln",
        "9f86d081884c7d659a2feaa0c55ad015",
        "b0fcd392-e905-4ab4-8eb9-aeae95c30b37",
        "k7Jm2Qx9Lp4Rt8Wv3Zn6",
        "a1B2c3D4-e5F6g7H8_i9J0",
        "9f86d081884c7d65%2B9a2feaa0c55ad015",
    ],
)
def test_a_key_in_the_path_is_hidden_and_cut(key: str) -> None:
    """By its beginning or as no name is spelt; in the middle and at the end, with or without a scheme, in any text."""
    assert masked_url(f"https://host/v1/{key}/openai") == f"https://host/v1/{MASK}/openai"
    assert masked_url(f"host:1/{key}") == f"host:1/{MASK}"
    assert masked(f"no answer of http://host/{key}/v1 in time") == f"no answer of http://host/{MASK}/v1 in time"
    cutter = SecretCutter(url_secrets(f"https://host/v1/{key}/openai"))
    assert cutter.text(f"no route: POST /v1/{key}/chat") == "no route: POST /v1/[secret]/chat"


def test_what_stands_behind_a_name_of_a_key_is_one() -> None:
    """From eight characters with a digit on, so that a word of the API stays one."""
    assert masked_url("http://h/token/secret12/v1") == f"http://h/token/{MASK}/v1"
    assert masked_url("http://h/api-key/abcd123/v1") == "http://h/api-key/abcd123/v1"


def test_a_key_is_one_even_behind_the_name_of_a_thing() -> None:
    """Ids of accounts and deployments are shown, but nothing that begins like a key."""
    assert masked_url("http://h/accounts/sk-12345678/v1") == f"http://h/accounts/{MASK}/v1"


def test_a_host_is_no_path() -> None:
    """Machines have names that nobody would choose."""
    host = "k7jm2qx9lp4rt8wv3zn6.us-east-1.aws.endpoints.huggingface.cloud"
    assert masked_url(f"https://{host}/v1") == f"https://{host}/v1"
    assert masked_url(f"{host}/v1") == f"{host}/v1"


def test_random_keys_are_found() -> None:
    """Of those with a digit at most 6 % are missed of 20 characters, 0.5 % of 32, none of 48; and no UUID."""
    source = random.Random(SEED)
    digits, lower, letters = string.digits, string.ascii_lowercase, string.ascii_letters
    for alphabet in (digits + "abcdef", digits + lower, digits + letters, digits + letters + "-_"):
        for length, missed_max in ((20, 120), (32, 10), (48, 0)):
            keys = ["".join(source.choices(alphabet, k=length)) for _ in range(2_000)]
            with_digit = (key for key in keys if any(map(str.isdigit, key)))
            missed = [key for key in with_digit if masked_url(f"http://h/{key}") != f"http://h/{MASK}"]
            assert len(missed) <= missed_max, (SEED, alphabet, missed)
    for _ in range(2_000):
        one = uuid.UUID(int=source.getrandbits(128))
        assert masked_url(f"http://h/{one}") == f"http://h/{MASK}", (SEED, one)
