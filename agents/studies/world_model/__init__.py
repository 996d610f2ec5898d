"""World model: game frames as latents and a recurrent network of them, which dream a game (Ha & Schmidhuber 2018).

__main__.py     the program: records games, trains, measures errors of predictions, films dreams
recording.py    games as frames, actions, rewards and ends
autoencoder.py  frames as a map of quantized latents, and back
model.py        WorldModel: the autoencoder, the convolutional LSTM of its latents, losses
dream.py        predictions many steps ahead: their errors, films beside the game
pong.py         ball and score of Pong, read from frames
plan.py         plays a game by planning in the dream; planner.py the cross-entropy method
"""
