"""The kinds of text features by their names in configs, except those made of others."""

from tfxc.data.text.bags import HashingFeatures, TfidfFeatures
from tfxc.data.text.given import GivenTerms
from tfxc.data.text.ngrams import FastTextTokens
from tfxc.data.text.pecos import PecosTfidfFeatures
from tfxc.data.text.subwords import PretrainedTokens
from tfxc.data.text.tokens import CharacterTokens, WordTokens

#: Bags of terms.
BAGS = {kind.name: kind for kind in (TfidfFeatures, PecosTfidfFeatures, HashingFeatures)}
#: What the terms of joined texts may be.
TERMS = {**BAGS, GivenTerms.name: GivenTerms}
#: Lists of token ids.
TOKENS = {
    kind.name: kind for kind in (CharacterTokens, WordTokens, FastTextTokens, PretrainedTokens)
}
